//! `walcast listen`: from arguments to a listener.

use anyhow::bail;
use clap::Args;

use super::token::TokenArguments;
use crate::{
    config::{Config, Environment, Flags, Purpose},
    listen::{Address, Binding, ListenOptions},
};

#[derive(Args, Debug)]
pub(super) struct ListenArguments {
    /// The server: ws://, wss://, http:// or https://.
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:4000")]
    url: Address,
    /// The token to connect with. Without it one is made from --role, --sub and --claim with the JWT
    /// secret.
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// The table, as SCHEMA.TABLE or TABLE (of schema public); * for all. As often as needed.
    #[arg(long = "table", value_name = "NAME", required = true)]
    tables: Vec<String>,
    /// The changes to see: INSERT, UPDATE, DELETE or *.
    #[arg(long, value_name = "WORD", default_value = "*", ignore_case = true,
          value_parser = ["*", "INSERT", "UPDATE", "DELETE"])]
    event: String,
    /// Conditions on the row, such as 'id=eq.1' or 'age=gt.18,city=in.(Paris,Rome)'.
    #[arg(long, value_name = "CONDITIONS")]
    filter: Option<String>,
    /// The columns to see, separated by commas; primary keys always come.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    select: Vec<String>,
    /// End well after this many changes.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    minted: TokenArguments,
}

impl ListenArguments {
    /// What to listen to, and as whom.
    pub(super) fn options(
        &self,
        flags: &Flags,
        environment: &Environment,
    ) -> anyhow::Result<ListenOptions> {
        let token = match &self.token {
            Some(token) if token.is_empty() => bail!("--token is empty"),
            Some(token) => token.clone(),
            None => {
                let config = Config::load(flags, environment, Purpose::Inspect)?;
                if config.jwt.secret.is_none() {
                    bail!("who listens? give --token, or --role with the JWT secret (JWT_SECRET)");
                }
                self.minted.mint(&config)?
            }
        };
        let bindings = self.tables.iter().map(|table| self.binding(table)).collect();
        Ok(ListenOptions { address: self.url.clone(), token, bindings, count: self.count })
    }

    fn binding(&self, table: &str) -> Binding {
        let (schema, table) = match table.split_once('.') {
            Some((schema, table)) => (schema, table),
            None if table == "*" => ("*", "*"),
            None => ("public", table),
        };
        Binding {
            event: self.event.to_uppercase(),
            schema: schema.to_owned(),
            table: table.to_owned(),
            filter: self.filter.clone(),
            select: self.select.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command, FromArgMatches};

    fn arguments(words: &[&str]) -> ListenArguments {
        let command = ListenArguments::augment_args(Command::new("listen"));
        let matches = command.try_get_matches_from([&["listen"], words].concat()).unwrap();
        ListenArguments::from_arg_matches(&matches).unwrap()
    }

    fn secret() -> Environment {
        [("JWT_SECRET".to_owned(), "hunter2".to_owned())].into_iter().collect()
    }

    #[test]
    fn tables_are_of_schema_public_unless_they_name_another() {
        let check = |table: &str, schema: &str, name: &str| {
            let binding = arguments(&["--table", table]).binding(table);
            assert_eq!(
                (binding.schema.as_str(), binding.table.as_str()),
                (schema, name),
                "{table}"
            );
        };
        check("messages", "public", "messages");
        check("private.messages", "private", "messages");
        check("private.*", "private", "*");
        check("*", "*", "*");
    }

    #[test]
    fn all_arguments_reach_the_binding() {
        let arguments = arguments(&[
            "--token", "T", "--table", "a", "--table", "b.c", "--event", "insert", "--filter",
            "id=eq.1", "--select", "x,y", "--count", "3",
        ]);
        let options = arguments.options(&Flags::default(), &Environment::default()).unwrap();
        assert_eq!(options.token, "T");
        assert_eq!(options.count, Some(3));
        assert_eq!(options.bindings.len(), 2);
        assert_eq!(
            options.bindings[1],
            Binding {
                event: "INSERT".to_owned(),
                schema: "b".to_owned(),
                table: "c".to_owned(),
                filter: Some("id=eq.1".to_owned()),
                select: vec!["x".to_owned(), "y".to_owned()],
            }
        );
    }

    #[test]
    fn without_a_token_one_is_made_or_asked_for() {
        let arguments = arguments(&["--table", "a", "--role", "anon"]);
        let made = arguments.options(&Flags::default(), &secret()).unwrap();
        assert_eq!(made.token.split('.').count(), 3);
        let error = arguments.options(&Flags::default(), &Environment::default()).unwrap_err();
        assert!(error.to_string().contains("--token"), "{error}");
    }
}
