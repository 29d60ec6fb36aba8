//! Private channels: rights that are asked, and what waits for them; earlier messages.

use walcast_protocol::message::{Encoding, UserBroadcast};

use super::*;
use crate::{Extensions, Rights, RightsFailure};

const PRIVATE: &str = r#"{"private":true,"broadcast":{"ack":true}}"#;
const NOTHING: [String; 0] = [];
const MAY_NOT_READ: &str =
    "Unauthorized: You do not have permissions to read from this Channel topic: room";
const MAY_NOT_WRITE: &str =
    "Unauthorized: You do not have permissions to write to this Channel topic: room";

fn may(broadcast: bool, presence: bool) -> Extensions {
    Extensions { broadcast, presence }
}

fn read(broadcast: bool, presence: bool) -> Result<Rights, RightsFailure> {
    Ok(Rights { read: may(broadcast, presence), write: may(false, false) })
}

fn write(broadcast: bool, presence: bool) -> Result<Rights, RightsFailure> {
    Ok(Rights { read: may(true, true), write: may(broadcast, presence) })
}

impl Client {
    fn authorized(&mut self, question: u32, result: Result<Rights, RightsFailure>) -> Vec<String> {
        self.handle(Input::Authorized { channel: ChannelId(1), question, result })
    }

    fn private(config: &str, rights: Result<Rights, RightsFailure>) -> Self {
        let mut client = Self::v2();
        client.join("1", "room", config);
        client.authorized(1, rights);
        assert!(client.session.is_open(ChannelId(1)));
        client.events.clear();
        client
    }

    fn broadcast(&mut self, reference: &str) -> Vec<String> {
        self.send(&format!(
            r#"["1","{reference}","realtime:room","broadcast",{{"n":{reference}}}]"#
        ))
    }

    fn track(&mut self, reference: &str) -> Vec<String> {
        self.send(&format!(
            r#"["1","{reference}","realtime:room","presence",{{"event":"track","payload":{{}}}}]"#
        ))
    }
}

fn told(reference: &str) -> String {
    format!(r#"tell others 1: [null,null,"realtime:room","broadcast",{{"n":{reference}}}]"#)
}

fn ok(reference: &str) -> String {
    format!(r#"["1","{reference}","realtime:room","phx_reply",{{"status":"ok","response":{{}}}}]"#)
}

fn denied(reference: &str) -> String {
    format!(
        r#"["1","{reference}","realtime:room","phx_reply",{{"status":"error","response":{{"reason":"{MAY_NOT_WRITE}"}}}}]"#
    )
}

fn not_tracked(reference: &str) -> String {
    format!(
        r#"["1","{reference}","realtime:room","phx_reply",{{"status":"error","response":{{}}}}]"#
    )
}

#[test]
fn a_private_join_waits_for_its_rights() {
    let mut client = Client::v2();
    assert_eq!(client.join("1", "room", PRIVATE), ["authorize 1#1 anon: read broadcast"]);
    assert!(!client.session.is_open(ChannelId(1)));
    assert_eq!(client.authorized(1, read(true, false)), [joined("1", "room")]);
    assert_eq!(client.hears, may(true, false));

    let mut client = Client::v2();
    let config = r#"{"private":true,"presence":{"enabled":true}}"#;
    assert_eq!(
        client.join("1", "room", config),
        ["authorize 1#1 anon: read broadcast read presence"]
    );
    assert_eq!(
        client.authorized(1, read(false, true)),
        [joined("1", "room"), "show presence 1".to_owned()]
    );
    assert_eq!(client.hears, may(false, true));
}

#[test]
fn who_may_read_nothing_or_cannot_be_judged_is_refused() {
    let check = |answer, reason: &str| {
        let mut client = Client::v2();
        client.join("1", "room", PRIVATE);
        assert_eq!(client.authorized(1, answer), [refused("1", "room", reason)]);
        assert_eq!(client.session.n_channels(), 0);
    };
    check(read(false, false), MAY_NOT_READ);
    check(Err(RightsFailure::Refused), MAY_NOT_READ);
    check(
        Err(RightsFailure::Cancelled),
        "QueryCanceled: The policies of realtime.messages took too long, please try again",
    );
    check(
        Err(RightsFailure::MissingPartition),
        "MissingPartition: Realtime was unable to find the expected messages partition",
    );
    check(
        Err(RightsFailure::Unavailable),
        "UnableToConnectToProject: Realtime was unable to connect to the project database",
    );
}

#[test]
fn an_answer_to_an_earlier_question_or_channel_is_nobodys() {
    let mut client = Client::v2();
    client.join("1", "room", PRIVATE);
    assert_eq!(client.authorized(7, read(true, true)), NOTHING);
    client.join("2", "room", PRIVATE);
    assert_eq!(client.authorized(1, read(true, true)), NOTHING);
    assert!(!client.session.is_open(ChannelId(2)));
}

#[test]
fn the_first_message_asks_whether_one_may_write_and_the_others_wait_in_order() {
    let mut client = Client::private(PRIVATE, read(true, false));
    let question = "authorize 1#2 anon: read presence write broadcast write presence";
    assert_eq!(client.broadcast("5"), [question]);
    assert_eq!(client.broadcast("6"), NOTHING);
    assert_eq!(client.track("7"), NOTHING);
    assert_eq!(
        client.authorized(2, write(true, true)),
        [
            told("5"),
            ok("5"),
            told("6"),
            ok("6"),
            ok("7"),
            "show presence 1".to_owned(),
            "track 1 (its own): 0 bytes".to_owned(),
        ]
    );
    assert_eq!(client.broadcast("8"), [told("8"), ok("8")]);
}

#[test]
fn who_may_not_write_is_told_so_each_time_and_asked_about_once() {
    let mut client = Client::private(PRIVATE, read(true, false));
    client.broadcast("5");
    client.track("6");
    assert_eq!(client.authorized(2, write(false, false)), [denied("5"), not_tracked("6")]);
    assert_eq!(client.broadcast("7"), [denied("7")]);
    assert_eq!(client.track("8"), [not_tracked("8")]);
    assert!(client.events.contains(&Event::BroadcastRefused(BroadcastRefusal::Unauthorized)));

    let mut client = Client::private(r#"{"private":true}"#, read(true, false));
    client.broadcast("5");
    assert_eq!(client.authorized(2, write(false, true)), NOTHING);
}

#[test]
fn a_question_that_fails_denies_what_waited_and_is_asked_again() {
    let mut client = Client::private(PRIVATE, read(true, false));
    client.broadcast("5");
    assert_eq!(client.authorized(2, Err(RightsFailure::Unavailable)), [denied("5")]);
    assert_eq!(client.broadcast("6"), ["authorize 1#3 anon: write broadcast write presence"]);
    assert_eq!(client.authorized(3, write(true, true)), [told("6"), ok("6")]);
}

#[test]
fn too_much_that_waits_is_denied() {
    let mut client = Client::private(PRIVATE, read(true, false));
    for n in 0..64 {
        client.broadcast(&(100 + n).to_string());
    }
    assert_eq!(client.broadcast("5"), [denied("5")]);
    assert_eq!(client.authorized(2, write(true, true)).len(), 128);
}

fn with_new_token(client: &mut Client) -> Vec<String> {
    client.send(r#"["1","9","realtime:room","access_token",{"access_token":"second"}]"#);
    client.verified(1, "second", Ok(claims("user", 600)))
}

#[test]
fn a_new_token_is_asked_about_at_once_and_writing_at_the_next_message() {
    let mut client = Client::private(PRIVATE, read(true, false));
    client.broadcast("5");
    client.authorized(2, write(true, true));
    assert_eq!(with_new_token(&mut client), ["authorize 1#3 user: read broadcast read presence"]);
    assert_eq!(client.authorized(3, read(true, true)), NOTHING);
    assert_eq!(client.broadcast("6"), ["authorize 1#4 user: write broadcast write presence"]);
    assert_eq!(client.authorized(4, write(false, false)), [denied("6")]);
}

#[test]
fn what_is_said_while_reading_is_asked_about_is_asked_about_next() {
    let mut client = Client::private(PRIVATE, read(true, false));
    with_new_token(&mut client);
    assert_eq!(client.broadcast("5"), NOTHING);
    assert_eq!(
        client.authorized(2, read(true, false)),
        ["authorize 1#3 user: read presence write broadcast write presence"]
    );
    assert_eq!(client.authorized(3, write(true, true)), [told("5"), ok("5")]);
}

#[test]
fn rights_that_are_lost_close_the_channel_and_new_ones_take_effect() {
    let mut client = Client::private(PRIVATE, read(true, false));
    assert_eq!(with_new_token(&mut client), ["authorize 1#2 user: read broadcast"]);
    let lost = "You no longer have permission to read from this Channel topic: room";
    assert_eq!(
        client.authorized(2, read(false, false)),
        [system("system", "error", lost), closed("1", "room")]
    );

    let config = r#"{"private":true,"presence":{"enabled":true}}"#;
    let mut client = Client::private(config, read(false, true));
    with_new_token(&mut client);
    assert_eq!(client.authorized(2, read(true, true)), NOTHING);
    assert_eq!(client.hears, may(true, true));

    for (failure, text) in [
        (RightsFailure::Cancelled, "Query was cancelled, please try again"),
        (RightsFailure::Unavailable, "Realtime was unable to connect to the project database"),
    ] {
        let mut client = Client::private(PRIVATE, read(true, false));
        with_new_token(&mut client);
        assert_eq!(
            client.authorized(2, Err(failure)),
            [system("system", "error", text), closed("1", "room")]
        );
    }
}

#[test]
fn what_waits_for_an_answer_is_judged_by_the_new_token() {
    let mut client = Client::private(PRIVATE, read(true, false));
    client.broadcast("5");
    assert_eq!(
        with_new_token(&mut client),
        ["authorize 1#3 user: read broadcast read presence write broadcast write presence"]
    );
    assert_eq!(client.authorized(2, write(true, true)), NOTHING);
    assert_eq!(client.authorized(3, write(false, false)), [denied("5")]);
}

#[test]
fn public_channels_may_be_refused_and_presence_be_for_all() {
    let limits = Limits { private_only: true, ..Limits::default() };
    let mut client = Client::new(Version::V2, limits);
    let reason = "PrivateOnly: This project only allows private channels";
    assert_eq!(client.join("1", "room", "{}"), [refused("1", "room", reason)]);
    assert_eq!(client.join("2", "room", PRIVATE).len(), 1);

    let limits = Limits { presence_enabled: true, ..Limits::default() };
    let mut client = Client::new(Version::V2, limits);
    assert_eq!(client.join("1", "room", "{}"), [joined("1", "room"), "show presence 1".to_owned()]);
}

fn replayed(id: &str, encoding: Encoding, payload: &'static str) -> UserBroadcast {
    let metadata = RawJson::parse(&Bytes::from(format!(r#"{{"id":"{id}","replayed":true}}"#)));
    let payload = Bytes::from_static(payload.as_bytes());
    UserBroadcast { event: "e".into(), metadata, encoding, payload }
}

impl Client {
    fn replayed(&mut self, result: Result<Vec<UserBroadcast>, ()>) -> Vec<String> {
        self.handle(Input::Replayed { channel: ChannelId(1), result })
    }
}

const REPLAY: &str = r#"{"private":true,"broadcast":{"replay":{"since":5,"limit":40}}}"#;

#[test]
fn earlier_messages_follow_the_reply_and_precede_what_comes_live() {
    let mut client = Client::v2();
    client.join("1", "room", REPLAY);
    assert_eq!(client.authorized(1, read(true, false)), ["replay 1 private since 5 limit 25"]);
    assert!(!client.session.is_open(ChannelId(1)));
    assert_eq!(client.hears, may(true, false), "what comes meanwhile is held back");
    assert_eq!(
        client.replayed(Ok(vec![replayed("a", Encoding::Json, "{\"x\":1}")])),
        [
            joined("1", "room"),
            r#"["1",null,"realtime:room","broadcast",{"type":"broadcast","event":"e","payload":{"x":1},"meta":{"id":"a","replayed":true}}]"#.to_owned(),
            "resume 1".to_owned(),
        ]
    );
}

#[test]
fn replay_needs_the_right_to_read_broadcasts_and_a_database_that_answers() {
    let mut client = Client::v2();
    client.join(
        "1",
        "room",
        REPLAY.replace("true", r#"true,"presence":{"enabled":true}"#).as_str(),
    );
    assert_eq!(client.authorized(1, read(false, true)), [refused("1", "room", MAY_NOT_READ)]);

    let mut client = Client::v2();
    client.join("1", "room", REPLAY);
    client.authorized(1, read(true, false));
    let reason = "UnableToReplayMessages: Realtime was unable to replay messages";
    assert_eq!(client.replayed(Err(())), [refused("1", "room", reason)]);
    assert!(client.listening.is_empty());
}

#[test]
fn public_channels_may_replay_where_that_is_allowed() {
    let limits = Limits { replay_public: true, replay_max: 100, ..Limits::default() };
    let mut client = Client::new(Version::V2, limits);
    let config = r#"{"broadcast":{"replay":{"since":5,"limit":40}}}"#;
    assert_eq!(client.join("1", "room", config), ["replay 1 public since 5 limit 40"]);
    assert_eq!(client.replayed(Ok(Vec::new())), [joined("1", "room"), "resume 1".to_owned()]);
}
