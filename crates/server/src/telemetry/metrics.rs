//! The metrics: each declared once, its handle kept for the hot path.
//!
//! What Supabase Realtime counts as well has its name there, so that dashboards find it; the rest begins
//! with `walcast_`.

use std::{collections::BTreeMap, fmt, time::Duration};

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

/// What a metric counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MetricKind {
    /// Grows only.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Times or sizes, in buckets.
    Histogram,
}

/// One series of a metric as it is declared.
#[derive(Debug)]
pub struct MetricSpec {
    /// Its name.
    pub name: &'static str,
    /// What it counts.
    pub kind: MetricKind,
    /// Its labels with their values. The value `*` stands for any.
    pub labels: &'static [(&'static str, &'static str)],
    /// What it tells.
    pub doc: &'static str,
}

/// The buckets of times in seconds: from a tenth of a millisecond to ten seconds.
const SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// The buckets of times in milliseconds: those of the reference, and finer ones between them.
const MILLISECONDS: &[f64] =
    &[1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 5000.0, 15000.0];

/// The buckets of sizes in bytes, as with the reference.
const BYTES: &[f64] = &[
    250.0,
    500.0,
    1_000.0,
    3_000.0,
    5_000.0,
    10_000.0,
    25_000.0,
    100_000.0,
    500_000.0,
    1_000_000.0,
    3_000_000.0,
];

/// How often [`Metrics::keep`] sorts observations into buckets.
const UPKEEP: Duration = Duration::from_secs(5);

macro_rules! metrics {
    ($($field:ident: $kind:ident, $name:literal {$($label:ident = $value:literal),*}, $doc:literal;)*) => {
        /// The handles of all metrics of one server.
        ///
        /// Each server has its own recorder, so that several in one process do not mix.
        pub struct Metrics {
            $(#[doc = $doc] pub $field: $kind,)*
            recorder: PrometheusRecorder,
            handle: PrometheusHandle,
        }

        impl Metrics {
            /// Declares all metrics.
            #[must_use]
            pub fn new() -> Self {
                let recorder = recorder();
                let handle = recorder.handle();
                Self { $($field: MetricHandle::register(&recorder, find(stringify!($field))),)* recorder, handle }
            }
        }

        /// Every series by the name of its handle, in the order of the documentation.
        static SERIES: &[(&str, MetricSpec)] = &[$((stringify!($field), MetricSpec {
            name: $name,
            kind: MetricKind::$kind,
            labels: &[$((stringify!($label), $value)),*],
            doc: $doc,
        })),*];
    };
}

metrics! {
    connections: Gauge, "realtime_connections_connected" {},
        "Open sockets.";
    connections_opened: Counter, "walcast_connections_opened_total" {},
        "Sockets that were opened.";
    connections_refused: Counter, "walcast_connections_refused_total" {},
        "Handshakes that were answered with an error.";
    jwks_fetches: Counter, "walcast_jwks_fetches_total" {result = "ok"},
        "Fetches of key sets from URLs.";
    jwks_fetches_failed: Counter, "walcast_jwks_fetches_total" {result = "error"},
        "Fetches of key sets from URLs.";
    channels: Gauge, "walcast_channels" {},
        "Joined channels.";
    subscriptions: Gauge, "realtime_subscriptions_manager_subscribers" {},
        "Live subscriptions to changes of tables.";
    joins: Counter, "realtime_channel_joins" {},
        "Channels that were joined.";
    messages_in: Counter, "walcast_messages_received_total" {},
        "Messages from clients.";
    malformed_frames: Counter, "walcast_malformed_frames_total" {},
        "Frames from clients that were no message and were dropped.";
    frames_out: Counter, "walcast_frames_sent_total" {},
        "Frames written to sockets.";
    bytes_in: Counter, "realtime_channel_input_bytes" {},
        "Bytes received from clients, frame heads included.";
    bytes_out: Counter, "realtime_channel_output_bytes" {},
        "Bytes written to clients, frame heads included.";
    payload_bytes_broadcast: Histogram, "realtime_payload_size" {message_type = "broadcast"},
        "The payloads that were passed on, in bytes.";
    payload_bytes_presence: Histogram, "realtime_payload_size" {message_type = "presence"},
        "The payloads that were passed on, in bytes.";
    payload_bytes_changes: Histogram, "realtime_payload_size" {message_type = "postgres_changes"},
        "The payloads that were passed on, in bytes.";
    queue_overflows: Counter, "walcast_queue_overflows_total" {},
        "Connections that were closed because they read too slowly.";
    events_in: Counter, "walcast_row_events_total" {},
        "Row changes received from PostgreSQL.";
    transactions_in: Counter, "walcast_transactions_total" {},
        "Transactions received from PostgreSQL.";
    events_out: Counter, "realtime_channel_db_events" {},
        "Row changes handed to connections; one change counts once per channel that gets it.";
    broadcasts_websocket: Counter, "walcast_broadcasts_total" {origin = "websocket"},
        "Broadcasts that were passed on, by where they came from.";
    broadcasts_http: Counter, "walcast_broadcasts_total" {origin = "http"},
        "Broadcasts that were passed on, by where they came from.";
    broadcasts_database: Counter, "walcast_broadcasts_total" {origin = "database"},
        "Broadcasts that were passed on, by where they came from.";
    broadcast_latency_ms: Histogram, "realtime_tenants_broadcast_from_database_latency_committed_at" {},
        "From the commit of a message that SQL sent to its passing on, in milliseconds. Both clocks must agree.";
    replay_ms: Histogram, "realtime_tenants_replay" {},
        "How long reading earlier messages for a join took, in milliseconds.";
    channel_events: Counter, "realtime_channel_events" {},
        "Broadcasts and changes of presence: each once, and once more for each channel that gets it.";
    presence_members: Gauge, "walcast_presence_members" {},
        "Channels that are tracked as present.";
    presence_calls: Counter, "realtime_channel_presence_events" {},
        "Calls of track and untrack, those that changed nothing included.";
    presence_refusals: Counter, "walcast_presence_refusals_total" {},
        "Calls of track that were refused, as there were too many on the whole server.";
    presence_diffs: Counter, "walcast_presence_diffs_total" {},
        "Changes of presence that were told; several of one topic within a tick count as one.";
    verdicts_in_process_allow: Counter, "walcast_verdicts_total" {path = "in_process", verdict = "allow"},
        "Decisions whether an audience may see a row, by who took them.";
    verdicts_in_process_deny: Counter, "walcast_verdicts_total" {path = "in_process", verdict = "deny"},
        "Decisions whether an audience may see a row, by who took them.";
    verdicts_postgres_allow: Counter, "walcast_verdicts_total" {path = "postgres", verdict = "allow"},
        "Decisions whether an audience may see a row, by who took them.";
    verdicts_postgres_deny: Counter, "walcast_verdicts_total" {path = "postgres", verdict = "deny"},
        "Decisions whether an audience may see a row, by who took them.";
    channels_decided: Counter, "walcast_channel_decisions_total" {},
        "Questions about what a private channel may do that were decided in process.";
    channel_questions: Counter, "walcast_channel_questions_total" {},
        "Questions to PostgreSQL about what a private channel may do.";
    read_check_ms: Histogram, "realtime_tenants_read_authorization_check" {},
        "How long it took to know what a private channel may read, in milliseconds.";
    write_check_ms: Histogram, "realtime_tenants_write_authorization_check" {},
        "How long it took to know what a private channel may write, in milliseconds.";
    authorization_errors: Counter, "walcast_authorization_errors_total" {},
        "Questions to PostgreSQL that failed or took too long; each denied its rows.";
    authorization_seconds: Histogram, "walcast_authorization_seconds" {},
        "How long a batch of questions to PostgreSQL took.";
    delivery_seconds: Histogram, "walcast_commit_to_socket_seconds" {},
        "From the commit of a change to the write of its frame. Both clocks must agree.";
    slot_lag_bytes: Gauge, "walcast_slot_lag_bytes" {},
        "Write-ahead log between what PostgreSQL has written and what was acknowledged.";
    reconnects: Counter, "walcast_stream_reconnects_total" {},
        "How often the replication stream was opened again.";
    slots_recreated: Counter, "walcast_slots_recreated_total" {},
        "How often continuity broke because a new slot had to be made.";
    catalogue_refreshes: Counter, "walcast_catalogue_refreshes_total" {},
        "How often the catalogue was read.";
}

/// Metrics whose label values are known only when they occur.
static FAMILIES: &[MetricSpec] = &[JOIN_ERRORS, BROADCASTS_REFUSED];

const JOIN_ERRORS: MetricSpec = MetricSpec {
    name: "realtime_channel_error",
    kind: MetricKind::Counter,
    labels: &[("code", "*")],
    doc: "Joins that were refused, by the error's code.",
};

const BROADCASTS_REFUSED: MetricSpec = MetricSpec {
    name: "walcast_broadcasts_refused_total",
    kind: MetricKind::Counter,
    labels: &[("reason", "*")],
    doc: "Broadcasts that went to nobody, by reason: malformed, payload_size_exceeded, rate, unauthorized, or what a row of realtime.messages lacked, such as event_missing.",
};

static METADATA: Metadata<'static> = Metadata::new("walcast", Level::INFO, None);

impl Metrics {
    /// Counts a refused join. The codes are those of the protocol's error table, so their number is
    /// bounded.
    pub fn join_error(&self, code: &'static str) {
        self.count(&JOIN_ERRORS, "code", code);
    }

    /// Counts a broadcast that went to nobody, by one of the reasons its series names.
    pub fn broadcast_refused(&self, reason: &'static str) {
        self.count(&BROADCASTS_REFUSED, "reason", reason);
    }

    fn count(&self, family: &MetricSpec, label: &'static str, value: &'static str) {
        let key = Key::from_parts(family.name, vec![Label::new(label, value)]);
        self.recorder.register_counter(&key, &METADATA).increment(1);
    }

    /// The metrics in Prometheus' text form.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Sorts observations into buckets from time to time, for ever. Without it, a server that
    /// nobody scrapes would collect them without end.
    pub async fn keep(&self) {
        let mut interval = tokio::time::interval(UPKEEP);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.handle.run_upkeep();
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn recorder() -> PrometheusRecorder {
    let mut builder = PrometheusBuilder::new();
    for (_, spec) in SERIES {
        if spec.kind == MetricKind::Histogram {
            let matcher = Matcher::Full(spec.name.to_owned());
            // Fails only for an empty list of buckets.
            builder = match builder.set_buckets_for_metric(matcher, buckets(spec.name).0) {
                Ok(builder) => builder,
                Err(_) => PrometheusBuilder::new(),
            };
        }
    }
    let recorder = builder.build_recorder();
    for spec in SERIES.iter().map(|(_, spec)| spec).chain(FAMILIES) {
        let (name, doc) = (spec.name.into(), spec.doc.into());
        match spec.kind {
            MetricKind::Counter => recorder.describe_counter(name, None, doc),
            MetricKind::Gauge => recorder.describe_gauge(name, None, doc),
            MetricKind::Histogram => {
                recorder.describe_histogram(name, Some(buckets(spec.name).1), doc);
            }
        }
    }
    recorder
}

/// The buckets of a histogram, and what they count.
fn buckets(name: &str) -> (&'static [f64], Unit) {
    if name.ends_with("_seconds") {
        (SECONDS, Unit::Seconds)
    } else if name.ends_with("_size") {
        (BYTES, Unit::Bytes)
    } else {
        (MILLISECONDS, Unit::Milliseconds)
    }
}

/// A duration as histograms in milliseconds take it.
#[must_use]
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

fn find(field: &str) -> Option<&'static MetricSpec> {
    SERIES.iter().find(|(name, _)| *name == field).map(|(_, spec)| spec)
}

/// The three kinds of handles, told apart by the field's type.
trait MetricHandle: Sized {
    fn register(recorder: &PrometheusRecorder, spec: Option<&MetricSpec>) -> Self;
}

fn key(spec: &MetricSpec) -> Key {
    Key::from_parts(spec.name, spec.labels.iter().map(Label::from).collect::<Vec<_>>())
}

impl MetricHandle for Counter {
    fn register(recorder: &PrometheusRecorder, spec: Option<&MetricSpec>) -> Self {
        let counter =
            spec.map_or_else(Self::noop, |spec| recorder.register_counter(&key(spec), &METADATA));
        // Shows the series before anything was counted.
        counter.increment(0);
        counter
    }
}

impl MetricHandle for Gauge {
    fn register(recorder: &PrometheusRecorder, spec: Option<&MetricSpec>) -> Self {
        let gauge =
            spec.map_or_else(Self::noop, |spec| recorder.register_gauge(&key(spec), &METADATA));
        gauge.set(0.0);
        gauge
    }
}

impl MetricHandle for Histogram {
    fn register(recorder: &PrometheusRecorder, spec: Option<&MetricSpec>) -> Self {
        spec.map_or_else(Self::noop, |spec| recorder.register_histogram(&key(spec), &METADATA))
    }
}

/// `docs/reference/metrics.md`: every metric, as Markdown.
#[must_use]
pub fn reference_page() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         `GET /metrics` answers in Prometheus' text form.\n\n\
         | Metric | Kind | Labels | Meaning |\n|---|---|---|---|\n",
    );
    let mut done = Vec::new();
    for spec in SERIES.iter().map(|(_, spec)| spec).chain(FAMILIES) {
        if done.contains(&spec.name) {
            continue;
        }
        done.push(spec.name);
        let kind = match spec.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        page.push_str(&format!(
            "| `{}` | {kind} | {} | {} |\n",
            spec.name,
            labels_of(spec.name),
            spec.doc
        ));
    }
    page
}

/// The labels of a metric with all their values.
fn labels_of(name: &str) -> String {
    let mut labels: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for spec in SERIES.iter().map(|(_, spec)| spec).chain(FAMILIES) {
        for (label, value) in spec.labels.iter().filter(|_| spec.name == name) {
            let values = labels.entry(label).or_default();
            if !values.contains(value) {
                values.push(value);
            }
        }
    }
    labels
        .iter()
        .map(|(label, values)| match values.as_slice() {
            ["*"] => format!("`{label}`"),
            values => format!("`{label}` = {}", values.join(", ")),
        })
        .collect::<Vec<_>>()
        .join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_shown_from_the_start() {
        let metrics = Metrics::new();
        metrics.join_error("Unauthorized");
        metrics.broadcast_refused("rate");
        metrics.delivery_seconds.record(0.02);
        metrics.authorization_seconds.record(0.02);
        metrics.replay_ms.record(milliseconds(Duration::from_micros(2_400)));
        metrics.read_check_ms.record(1.0);
        metrics.write_check_ms.record(1.0);
        metrics.broadcast_latency_ms.record(1.0);
        metrics.payload_bytes_broadcast.record(400.0);
        let text = metrics.render();
        for spec in SERIES.iter().map(|(_, spec)| spec).chain(FAMILIES) {
            assert!(text.contains(&format!("# HELP {} ", spec.name)), "{}\n{text}", spec.name);
        }
        assert!(text.contains("realtime_channel_error{code=\"Unauthorized\"} 1"), "{text}");
        assert!(text.contains("realtime_tenants_replay_bucket{le=\"2.5\"} 1"), "{text}");
        let size = "realtime_payload_size_bucket{message_type=\"broadcast\",le=\"500\"} 1";
        assert!(text.contains(size), "{text}");
        assert!(text.contains("walcast_commit_to_socket_seconds_bucket{le=\"0.025\"} 1"), "{text}");
    }

    #[test]
    fn handles_count_in_their_own_series_and_server() {
        let metrics = Metrics::new();
        let other = Metrics::new();
        metrics.verdicts_postgres_deny.increment(3);
        metrics.connections.increment(1.0);
        let text = metrics.render();
        let line = "walcast_verdicts_total{path=\"postgres\",verdict=\"deny\"} 3";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("walcast_verdicts_total{path=\"postgres\",verdict=\"allow\"} 0"));
        assert!(text.contains("realtime_connections_connected 1"));
        assert!(!other.render().contains(line));
    }

    #[test]
    fn the_page_has_every_metric_once() {
        let page = reference_page();
        for spec in SERIES.iter().map(|(_, spec)| spec).chain(FAMILIES) {
            assert_eq!(page.matches(&format!("| `{}` |", spec.name)).count(), 1, "{}", spec.name);
        }
        assert!(page.contains("`path` = in_process, postgres; `verdict` = allow, deny"), "{page}");
    }
}
