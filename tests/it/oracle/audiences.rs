//! Who asks: roles, and claims of every shape.

use super::{
    random::Random,
    values::{EMAILS, USERS, quoted},
};

/// Creates what is missing in the cluster, as a superuser. They are the same in all worlds.
pub const CREATE_ROLES: &str = r#"
do $$
begin
  if to_regrole('oracle_member') is null then
    create role oracle_member nologin inherit;
    create role oracle_noinherit nologin noinherit;
    create role oracle_deep nologin inherit;
    create role oracle_owner nologin inherit;
    create role oracle_owner_member nologin inherit;
    create role "Oracle's Odd-Role" nologin inherit;
    create role oracle_bypass nologin inherit bypassrls;
    create role oracle_super nologin superuser;
    grant authenticated to oracle_member;
    grant authenticated to oracle_noinherit;
    grant oracle_member to oracle_deep;
    grant oracle_owner to oracle_owner_member;
    grant anon, oracle_noinherit to "Oracle's Odd-Role";
    grant oracle_member, oracle_noinherit, oracle_deep, oracle_owner, oracle_owner_member,
      "Oracle's Odd-Role", oracle_bypass, oracle_super to walcast;
  end if;
end $$;
"#;

/// Roles that ask, the usual ones more often.
#[rustfmt::skip]
const ASKING: &[&str] = &[
    "authenticated", "authenticated", "authenticated", "authenticated", "authenticated",
    "authenticated", "anon", "anon", "anon", "anon", "oracle_member", "oracle_member", "oracle_noinherit",
    "oracle_deep", "oracle_owner", "oracle_owner_member", "Oracle's Odd-Role", "oracle_bypass",
    "service_role", "oracle_super",
];

/// Roles that policies name.
#[rustfmt::skip]
pub const NAMED: &[&str] = &[
    "authenticated", "authenticated", "anon", "oracle_member", "oracle_noinherit", "oracle_owner",
    "\"Oracle's Odd-Role\"", "service_role", "public",
];

/// A role with claims.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Asking {
    /// The role.
    pub role: String,
    /// JSON text.
    pub claims: String,
}

/// Different audiences; some differ from another in claims only that few policies read.
pub fn audiences(random: &mut Random, count: usize) -> Vec<Asking> {
    // In some worlds hardly a claim is as it should be.
    let percent_odd = *random.pick(&[5, 15, 15, 60]);
    let mut found: Vec<Asking> = Vec::new();
    while found.len() < count {
        let twin_of = (!found.is_empty() && random.chance(30)).then(|| random.pick(&found).clone());
        let asking = match twin_of {
            Some(Asking { role, claims }) => Asking { role, claims: twin(&claims, random) },
            None => {
                let role = (*random.pick(ASKING)).to_owned();
                let claims = claims(&role, percent_odd, random);
                Asking { role, claims }
            }
        };
        if !found.contains(&asking) {
            found.push(asking);
        }
    }
    found
}

/// The same claims in other words, or with one more that nobody reads.
fn twin(claims: &str, random: &mut Random) -> String {
    let Some(rest) = claims.strip_prefix('{').filter(|rest| rest.contains(':')) else {
        return format!(" {claims}");
    };
    match random.below(3) {
        0 => format!("{{\"iat\": {}, {rest}", random.below(1_000_000)),
        1 => format!("{{  {rest}"),
        _ => format!("{{\"session_id\": \"{}\", {rest}", random.below(1_000_000)),
    }
}

fn claims(role: &str, percent_odd: usize, random: &mut Random) -> String {
    if random.chance(4) {
        let odd = [
            "{}",
            "[]",
            "null",
            "\"text\"",
            "[{\"sub\": \"a\"}]",
            "{\"sub\": {}}",
            "1",
            "{\"a\": {\"b\": [1, 2]}}",
        ];
        return (*random.pick(&odd)).to_owned();
    }
    let mut members = Vec::new();
    if random.chance(92) {
        members.push(format!("\"sub\": {}", subject(percent_odd, random)));
    }
    if random.chance(90) {
        let named = format!("\"{}\"", role.replace('"', ""));
        let other = ["\"authenticated\"", "\"admin\"", "null", "1", "[\"anon\"]"];
        let claim = if random.chance(85) { named } else { (*random.pick(&other)).to_owned() };
        members.push(format!("\"role\": {claim}"));
    }
    if random.chance(70) {
        members.push(format!("\"email\": \"{}\"", random.pick(EMAILS)));
    }
    if random.chance(60) {
        let ids = [
            "1",
            "2",
            "42",
            "\"1\"",
            "\"42\"",
            "1.0",
            "null",
            "\"x\"",
            "9223372036854775808",
            "1e2",
            "[1]",
            "true",
            "\" 7\"",
        ];
        members.push(format!("\"org_id\": {}", random.pick(&ids)));
    }
    if random.chance(60) {
        let roles = [
            "[\"member\", \"admin\"]",
            "[\"a\"]",
            "[]",
            "\"member\"",
            "{\"member\": true}",
            "[1, null]",
            "null",
        ];
        members.push(format!("\"roles\": {}", random.pick(&roles)));
    }
    if random.chance(60) {
        let data = [
            "{\"role\": \"admin\", \"roles\": [\"member\"], \"org_id\": 1}",
            "{\"a\": {\"b\": \"x\"}, \"role\": \"member\"}",
            "{}",
            "\"{}\"",
            "null",
            "{\"roles\": {\"0\": \"a\"}, \"b\": 2, \"a\": \"a\"}",
            "[\"a\", \"b\"]",
        ];
        members.push(format!("\"app_metadata\": {}", random.pick(&data)));
    }
    if random.chance(40) {
        let flags = [
            "true",
            "false",
            "\"true\"",
            "\"t\"",
            "\"maybe\"",
            "1",
            "null",
            "\" TRUE \"",
            "\"of\"",
        ];
        members.push(format!("\"is_admin\": {}", random.pick(&flags)));
    }
    if random.chance(30) {
        let others = [
            "\"a\": 1",
            "\"a\": \"a\"",
            "\"a\": {\"b\": [1, 2]}",
            "\"\": \"empty\"",
            "\"ä\": \"ä\"",
            "\"\\u00e4\": \"\\u00e4\"",
            "\"b\": \"it's\"",
            "\"a\": \"a\\\\b\"",
            "\"a\": 1, \"a\": \"twice\"",
            "\"sub\": \"again\"",
            "\"b\": 1e400",
            "\"b\": \"\\ud83d\\ude00\"",
            "\"aal\": \"aal1\"",
            "\"0\": \"zero\"",
            "\"b\": 12345678901234567890.10",
        ];
        members.push((*random.pick(&others)).to_owned());
    }
    if random.chance(2) {
        // jsonb cannot hold the first, nothing can read the second.
        members.push((*random.pick(&["\"n\": \"\\u0000\"", "\"n\": \"\\ud800\""])).to_owned());
    }
    if random.chance(2) {
        members.push(format!("\"deep\": {}{}", "[".repeat(200), "]".repeat(200)));
    }
    if random.chance(2) {
        members.push(format!("\"large\": \"{}\"", "x".repeat(20_000)));
    }
    let members = random.sample(&members, members.len());
    let separator = if random.chance(70) { ", " } else { "," };
    format!("{{{}}}", members.join(separator))
}

fn subject(percent_odd: usize, random: &mut Random) -> String {
    if !random.chance(percent_odd) {
        return format!("\"{}\"", random.pick(USERS));
    }
    let odd = [
        "\"A11CE000-0000-4000-8000-000000000001\"",
        "\"{a11ce000-0000-4000-8000-000000000001}\"",
        "\"a11ce00000004000800000000000 0001\"",
        "\"a11ce000000040008000000000000001\"",
        "\"a11ce000-00004000-80000000-00000001\"",
        "\"\"",
        "\" \"",
        "\"alice\"",
        "1",
        "null",
        "true",
        "{}",
        "[\"a11ce000-0000-4000-8000-000000000001\"]",
        "\" a11ce000-0000-4000-8000-000000000001\"",
        "\"a11ce000-0000-4000-8000-00000000000\"",
    ];
    (*random.pick(&odd)).to_owned()
}

impl Asking {
    /// What a session does to become this audience until its transaction ends.
    pub fn become_sql(&self) -> String {
        format!(
            "set local \"request.jwt.claims\" = {}; set local role {}",
            quoted(&self.claims),
            super::values::identifier(&self.role)
        )
    }
}
