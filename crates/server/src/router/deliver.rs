//! Encodes what passed, once per view, and hands it to the outboxes.

use std::{collections::HashMap, sync::Arc};

use walcast_change::ColumnSet;
use walcast_protocol::{
    Frame,
    changes::{OldView, View},
    frame,
};

use super::{
    answers::Answers,
    gathering::Gathering,
    layout::{Layout, Layouts},
    plan::{Gate, Plan, Recipient},
    subscriptions::{ChannelHandle, Subscriber},
};
use crate::{outbox::Change, telemetry::Metrics};

/// Delivers the plans of one batch.
#[derive(Debug)]
pub(super) struct Deliverer<'a> {
    layouts: &'a Layouts,
    metrics: &'a Metrics,
    max_record_bytes: usize,
    gathering: Gathering<'a>,
}

/// What decides the bytes of a payload: everyone with an equal key gets the same ones.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct PayloadKey {
    view: usize,
    selected: Option<ColumnSet>,
    is_old_whole: bool,
    is_problem: bool,
}

struct Payload {
    key: PayloadKey,
    data: Vec<u8>,
}

/// One message: a channel, the bindings it is for, and the payload.
struct Message<'a> {
    channel: &'a Arc<ChannelHandle>,
    ids: Vec<u32>,
    payload: usize,
}

impl<'a> Deliverer<'a> {
    /// A deliverer for one batch.
    pub(super) fn new(layouts: &'a Layouts, metrics: &'a Metrics, max_record_bytes: usize) -> Self {
        let gathering = Gathering::new(metrics);
        Self { layouts, metrics, max_record_bytes, gathering }
    }

    /// Hands over what is left.
    pub(super) fn finish(mut self) {
        self.gathering.hand_over();
    }

    /// Delivers one event to everyone whose gates are open.
    pub(super) fn deliver(&mut self, plan: &'a Plan, answers: &Answers) {
        let Some(layout) = self.layouts.get(plan.layout) else { return };
        let is_open = |gate: Gate| match gate {
            Gate::Open => true,
            Gate::Closed => false,
            Gate::Ask(slot) => answers.find(slot).unwrap_or_default(),
        };
        let mut payloads: Vec<Payload> = Vec::new();
        let mut messages: Vec<Message<'a>> = Vec::new();
        let mut by_channel: HashMap<(*const ChannelHandle, usize), usize> = HashMap::new();
        for recipient in &plan.recipients {
            let subscriber = &recipient.subscriber;
            if recipient.row == Gate::Open {
                self.metrics.verdicts_in_process_allow.increment(1);
            }
            if !is_open(recipient.filter) || !is_open(recipient.row) {
                continue;
            }
            let key = PayloadKey {
                view: recipient.view,
                selected: selected(layout, subscriber),
                is_old_whole: is_open(recipient.old),
                is_problem: recipient.is_problem,
            };
            let payload = self.payload(layout, plan, recipient, key, &mut payloads);
            let channel = &subscriber.channel;
            let place = (Arc::as_ptr(channel), payload);
            // Most events have one recipient, for whom no map is needed.
            let same = match messages.first() {
                None => None,
                Some(_) if plan.recipients.len() == 1 => None,
                Some(_) => by_channel.get(&place).copied(),
            };
            match same.and_then(|position| messages.get_mut(position)) {
                Some(message) if !message.ids.contains(&subscriber.binding) => {
                    message.ids.push(subscriber.binding);
                }
                Some(_) => {}
                None => {
                    if plan.recipients.len() > 1 {
                        by_channel.insert(place, messages.len());
                    }
                    messages.push(Message { channel, ids: vec![subscriber.binding], payload });
                }
            }
        }
        // Who has the same topic gets the very same frame.
        let mut last: Option<(&Message<'_>, Frame)> = None;
        for message in &messages {
            let known = last.take().filter(|(other, _)| message.is_framed_as(other));
            let frame = match (known, payloads.get(message.payload)) {
                (Some((_, frame)), _) => frame,
                (None, Some(payload)) => message.frame(plan, &payload.data),
                (None, None) => continue,
            };
            let change = Change {
                channel: message.channel.id,
                frame: frame.clone(),
                committed_us: plan.event.commit.timestamp_us,
            };
            self.gathering.add(message.channel, change);
            last = Some((message, frame));
        }
    }

    fn payload(
        &self,
        layout: &Layout,
        plan: &Plan,
        recipient: &Recipient,
        key: PayloadKey,
        payloads: &mut Vec<Payload>,
    ) -> usize {
        if let Some(position) = payloads.iter().position(|payload| payload.key == key) {
            return position;
        }
        let mut data = Vec::with_capacity(512);
        if let Some(view) = layout.views.get(recipient.view) {
            match view.problem {
                Some(problem) if recipient.is_problem => {
                    layout.encoder.encode_problem(&plan.event, problem, &mut data);
                }
                _ => {
                    let shown = View {
                        selectable: &view.selectable,
                        selected: key.selected.as_ref(),
                        old: if key.is_old_whole { OldView::Whole } else { OldView::KeyOnly },
                        max_record_bytes: self.max_record_bytes,
                    };
                    layout.encoder.encode(&plan.event, &shown, &mut data);
                }
            }
        }
        self.metrics
            .payload_bytes_changes
            .record(f64::from(u32::try_from(data.len()).unwrap_or(u32::MAX)));
        payloads.push(Payload { key, data });
        payloads.len() - 1
    }
}

impl Message<'_> {
    fn is_framed_as(&self, other: &Self) -> bool {
        let (channel, others) = (self.channel, other.channel);
        self.payload == other.payload
            && channel.version == others.version
            && channel.is_legacy == others.is_legacy
            && channel.topic == others.topic
            && self.ids == other.ids
    }

    fn frame(&self, plan: &Plan, data: &[u8]) -> Frame {
        let channel = self.channel;
        if channel.is_legacy {
            let event = plan.event.kind().as_str();
            return frame::legacy_change(channel.version, &channel.topic, event, data);
        }
        frame::postgres_changes(channel.version, &channel.topic, &self.ids, data)
    }
}

fn selected(layout: &Layout, subscriber: &Subscriber) -> Option<ColumnSet> {
    let select = subscriber.select.as_ref()?;
    Some(select.iter().filter_map(|name| layout.table.position(name)).collect())
}
