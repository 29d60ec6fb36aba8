//! What `walcast dev` prints once everything runs.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::{fmt, iter};

use walcast_replicator::Secret;

use crate::dev::demo::{ALICE, BOB, Keys};

/// The last line; programs that start `walcast dev` wait for it.
pub(super) const READY: &str = "walcast is ready";

/// All there is to know about a running `walcast dev`.
pub(super) struct Welcome {
    pub(super) address: SocketAddr,
    pub(super) keys: Keys,
    pub(super) postgres_major: u32,
    pub(super) psql: Option<PathBuf>,
    pub(super) socket_folder: PathBuf,
    pub(super) database_port: u16,
    pub(super) database: &'static str,
    pub(super) superuser: &'static str,
    pub(super) password: Secret,
    pub(super) keep: Option<PathBuf>,
}

impl Welcome {
    /// Prints it to the standard output.
    pub(super) fn print(&self) -> io::Result<()> {
        let mut output = io::stdout().lock();
        write!(output, "{self}")?;
        output.flush()
    }

    fn snippet(&self) -> String {
        // Lines that a Node prompt takes one by one: none begins with a dot, and none has a value
        // that the prompt would print.
        format!(
            "const {{ createClient }} = require('@supabase/supabase-js')\n\
             const client = createClient('http://{address}', '{key}', \
             {{ realtime: {{ transport: globalThis.WebSocket ?? require('ws') }} }})\n\
             const channel = client.channel('demo').on('postgres_changes', \
             {{ event: '*', schema: 'public', table: 'messages' }}, \
             (change) => console.log(change.eventType, change.new)\
             ).subscribe((status) => console.log(status))",
            address = self.address,
            key = self.keys.alice,
        )
    }

    fn insertion(&self) -> String {
        let sql = format!("insert into messages (owner, body) values ('{ALICE}', 'hello')");
        match &self.psql {
            Some(psql) => format!(
                "{} -h {} -p {} -U {} -d {} -c \"{sql}\"",
                shell_word(&psql.display().to_string()),
                self.socket_folder.display(),
                self.database_port,
                self.superuser,
                self.database,
            ),
            None => format!(
                "{sql}\n\n(There is no psql on this machine: run it with any PostgreSQL client, \
                 at the database address above.)"
            ),
        }
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let Self { address, keys, superuser, database, database_port, .. } = self;
        let password = self.password.expose();
        vec![
            ("URL", format!("http://{address}")),
            ("WebSocket", format!("ws://{address}/realtime/v1/websocket")),
            (
                "database",
                format!("postgres://{superuser}:{password}@127.0.0.1:{database_port}/{database}"),
            ),
            ("anon key", keys.anon.clone()),
            ("alice's key", keys.alice.clone()),
            ("bob's key", keys.bob.clone()),
            ("service key", keys.service_role.clone()),
        ]
    }
}

impl fmt::Display for Welcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let major = self.postgres_major;
        writeln!(formatter, "walcast, with a PostgreSQL {major} of its own\n")?;
        for (name, value) in self.lines() {
            writeln!(formatter, "  {name:<12} {value}")?;
        }
        writeln!(
            formatter,
            "\n  alice is user {ALICE}, bob is user {BOB}; both have the role authenticated.\n\
             \x20 Tables: messages (row-level security), todos, countries.\n\n\
             Paste into node, where @supabase/supabase-js is installed \
             (before Node 22 also ws):\n\n{}\n\n\
             Once it says SUBSCRIBED, insert a row that alice may see; with the key of anon or \
             bob, nothing would be printed:\n\n{}\n",
            self.snippet(),
            self.insertion(),
        )?;
        match &self.keep {
            Some(keep) => writeln!(
                formatter,
                "Ctrl-C stops everything; the data stays in {}.",
                keep.display()
            )?,
            None => writeln!(formatter, "Ctrl-C stops everything and leaves nothing behind.")?,
        }
        writeln!(formatter, "{READY}")
    }
}

/// Quotes `word` for a POSIX shell where it needs that.
fn shell_word(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+@".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    let quote = iter::once("'");
    quote.clone().chain(iter::once(word.replace('\'', "'\\''").as_str())).chain(quote).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn welcome() -> Welcome {
        let key = |name: &str| format!("{name}-token");
        Welcome {
            address: ([127, 0, 0, 1], 4000).into(),
            keys: Keys {
                anon: key("anon"),
                alice: key("alice"),
                bob: key("bob"),
                service_role: key("service"),
            },
            postgres_major: 15,
            psql: Some("/usr/lib/postgresql/15/bin/psql".into()),
            socket_folder: "/var/tmp/walcast-1".into(),
            database_port: 5499,
            database: "postgres",
            superuser: "postgres",
            password: Secret::new("0123abcd"),
            keep: None,
        }
    }

    #[test]
    fn it_ends_with_the_line_that_programs_wait_for() {
        let text = welcome().to_string();
        assert_eq!(text.lines().last(), Some("walcast is ready"));
        for part in [
            "http://127.0.0.1:4000\n",
            "ws://127.0.0.1:4000/realtime/v1/websocket\n",
            "postgres://postgres:0123abcd@127.0.0.1:5499/postgres\n",
            "anon-token",
            "bob-token",
            "service-token",
            "leaves nothing behind",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn the_snippet_can_be_pasted_into_a_prompt_line_by_line() {
        let snippet = welcome().snippet();
        assert!(snippet.contains("createClient('http://127.0.0.1:4000', 'alice-token'"));
        for line in snippet.lines() {
            assert!(line.starts_with("const "), "{line}");
        }
    }

    #[test]
    fn without_psql_the_statement_and_the_address_remain() {
        let with = welcome().insertion();
        assert!(with.starts_with(
            "/usr/lib/postgresql/15/bin/psql -h /var/tmp/walcast-1 -p 5499 -U postgres"
        ));
        assert!(with.ends_with("'hello')\""), "{with}");
        let without = Welcome { psql: None, ..welcome() }.insertion();
        assert!(without.starts_with("insert into messages"), "{without}");
    }

    #[test]
    fn a_kept_folder_is_named() {
        let text = Welcome { keep: Some("/srv/demo".into()), ..welcome() }.to_string();
        assert!(text.contains("stays in /srv/demo."), "{text}");
    }

    #[test]
    fn words_are_quoted_for_the_shell_where_they_need_it() {
        for (word, expected) in [
            ("/usr/bin/psql", "/usr/bin/psql"),
            ("/Applications/My Apps/psql", "'/Applications/My Apps/psql'"),
            ("it's", "'it'\\''s'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(word), expected);
        }
    }
}
