//! What whoever runs the server can ask of a connection, and tell it.
//!
//! Not through the connection's queue: a client that does not read is one of those to look at.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc},
    time::timeout,
};

use crate::router::ConnectionId;

/// Orders that may wait for one connection; more are dropped.
const ORDERS_MAX: usize = 16;

/// How long connections have to answer. One that takes longer is left out.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Something for a connection.
#[derive(Clone, Debug)]
pub(super) enum Order {
    /// Describe yourself.
    Describe(mpsc::Sender<ConnectionDescription>),
    /// Go away, if this concerns you.
    Disconnect {
        /// Whom it concerns: those who are this subject on any channel, or everybody.
        subject: Option<Arc<str>>,
        /// Told by those who go.
        gone: mpsc::Sender<ConnectionId>,
    },
}

/// A connection as it is shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConnectionDescription {
    /// Its number.
    pub id: ConnectionId,
    /// The serialiser, as clients name it.
    pub version: &'static str,
    /// Whether it is a WebSocket; otherwise it polls.
    pub is_websocket: bool,
    /// When it was opened, in s since 1970.
    pub opened_unix: u64,
    /// Who opened it.
    pub opened_by: Identity,
    /// Frames that wait for it.
    pub n_waiting: usize,
    /// Its channels.
    pub channels: Vec<ChannelDescription>,
}

/// A channel as it is shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChannelDescription {
    /// Its topic, prefix included.
    pub topic: String,
    /// Whether policies decide about it.
    pub is_private: bool,
    /// Who is behind it.
    pub identity: Identity,
}

/// Who is behind a token, as far as that is shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The role.
    pub role: String,
    /// The claim `sub`, where it is a text.
    pub subject: Option<String>,
}

/// The orders of one connection.
#[derive(Debug, Default)]
pub(super) struct Control {
    orders: Mutex<Vec<Order>>,
    arrived: Notify,
}

impl Control {
    /// Waits for orders. Cancel-safe.
    pub(super) async fn ordered(&self) -> Vec<Order> {
        loop {
            let orders = std::mem::take(&mut *lock(&self.orders));
            if !orders.is_empty() {
                return orders;
            }
            self.arrived.notified().await;
        }
    }

    fn order(&self, order: Order) {
        let mut orders = lock(&self.orders);
        if orders.len() < ORDERS_MAX {
            orders.push(order);
        }
        drop(orders);
        self.arrived.notify_one();
    }
}

/// All connections that are open.
#[derive(Debug, Default)]
pub struct OpenConnections(Mutex<BTreeMap<ConnectionId, Arc<Control>>>);

/// A connection is listed for as long as this lives.
#[derive(Debug)]
pub(super) struct Listed {
    connections: Arc<OpenConnections>,
    id: ConnectionId,
    pub(super) control: Arc<Control>,
}

impl OpenConnections {
    /// Lists a connection.
    pub(super) fn list(self: &Arc<Self>, id: ConnectionId) -> Listed {
        let control = Arc::new(Control::default());
        lock(&self.0).insert(id, Arc::clone(&control));
        Listed { connections: Arc::clone(self), id, control }
    }

    /// At most `n_max` connections with numbers above `after`, by their numbers, and the last number
    /// that was looked at. Those that go, or do not answer in time, are left out.
    pub async fn describe(
        &self,
        after: ConnectionId,
        n_max: usize,
    ) -> (Vec<ConnectionDescription>, Option<ConnectionId>) {
        let (chosen, last) = {
            let connections = lock(&self.0);
            let later = connections.range((Bound::Excluded(after), Bound::Unbounded)).take(n_max);
            let chosen: Vec<Arc<Control>> =
                later.clone().map(|(_, control)| Arc::clone(control)).collect();
            (chosen, later.last().map(|(id, _)| *id))
        };
        let mut descriptions = ask(&chosen, Order::Describe).await;
        descriptions.sort_by_key(|description| description.id);
        (descriptions, last)
    }

    /// Sends away one connection; whether there was one.
    pub async fn disconnect(&self, id: ConnectionId) -> bool {
        let chosen: Vec<Arc<Control>> = lock(&self.0).get(&id).into_iter().cloned().collect();
        !ask(&chosen, |gone| Order::Disconnect { subject: None, gone }).await.is_empty()
    }

    /// Sends away all connections on which somebody is this subject; how many there were.
    pub async fn disconnect_subject(&self, subject: &str) -> usize {
        let subject: Arc<str> = subject.into();
        let all: Vec<Arc<Control>> = lock(&self.0).values().cloned().collect();
        let order = |gone| Order::Disconnect { subject: Some(Arc::clone(&subject)), gone };
        ask(&all, order).await.len()
    }
}

/// Gives an order to each, and waits for what they say.
async fn ask<T>(chosen: &[Arc<Control>], order: impl Fn(mpsc::Sender<T>) -> Order) -> Vec<T> {
    let (sender, mut receiver) = mpsc::channel(chosen.len().max(1));
    for control in chosen {
        control.order(order(sender.clone()));
    }
    drop(sender);
    let mut answers = Vec::new();
    let receiving = async {
        while let Some(answer) = receiver.recv().await {
            answers.push(answer);
        }
    };
    // Whoever has not answered by then is left out.
    let _ = timeout(ANSWER_TIMEOUT, receiving).await;
    answers
}

impl Drop for Listed {
    fn drop(&mut self) {
        lock(&self.connections.0).remove(&self.id);
        // Whoever waits for an answer stops waiting.
        lock(&self.control.orders).clear();
    }
}

/// What is in there is whole whatever happened to those who held it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(id: u64) -> ConnectionDescription {
        ConnectionDescription {
            id: ConnectionId(id),
            version: "2.0.0",
            is_websocket: true,
            opened_unix: 0,
            opened_by: Identity { role: "anon".to_owned(), subject: None },
            n_waiting: 0,
            channels: Vec::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_left_out_and_who_has_gone_is_not_waited_for() {
        let connections = Arc::new(OpenConnections::default());
        let listed: Vec<Listed> = (1..=4).map(|id| connections.list(ConnectionId(id))).collect();
        let [first, silent, gone, last] = listed.try_into().unwrap_or_else(|_| unreachable!());
        drop(gone);
        let answering = async {
            for (control, id) in [(&first.control, 1), (&last.control, 4)] {
                for order in control.ordered().await {
                    let Order::Describe(to) = order else { continue };
                    to.send(description(id)).await.unwrap();
                }
            }
        };
        let (found, ()) = tokio::join!(connections.describe(ConnectionId(0), 10), answering);
        assert_eq!(found, (vec![description(1), description(4)], Some(ConnectionId(4))));
        drop((silent, last));
        // Only the silent ones that are still there cost time.
        let (found, ()) = tokio::join!(connections.describe(ConnectionId(1), 10), async {});
        assert_eq!(found, (Vec::new(), None));
        drop(first);
        assert!(lock(&connections.0).is_empty());
    }

    #[test]
    fn only_so_many_orders_wait() {
        let control = Control::default();
        for _ in 0..100 {
            let (sender, _) = mpsc::channel(1);
            control.order(Order::Describe(sender));
        }
        assert_eq!(lock(&control.orders).len(), ORDERS_MAX);
    }
}
