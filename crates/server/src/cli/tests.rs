//! What the command line takes.

use super::*;

#[test]
fn the_command_line_is_consistent() {
    command().debug_assert();
}

#[test]
fn every_command_has_help_a_person_can_use() {
    for subcommand in command().get_subcommands_mut() {
        if subcommand.is_hide_set() {
            continue;
        }
        let name = subcommand.get_name().to_owned();
        let help = subcommand.render_long_help().to_string();
        assert!(help.lines().count() > 5, "{name}: {help}");
        for argument in subcommand.get_arguments() {
            let id = argument.get_id().as_str();
            assert!(id == "help" || argument.get_help().is_some(), "{name} --{id} has no help");
        }
    }
    let help = command().render_long_help().to_string();
    assert!(help.contains("Exit codes:"), "{help}");
}

fn read_line(line: &str) -> Result<Invocation, Unusable> {
    let environment: Environment =
        [("JWT_SECRET".to_owned(), "hunter2".to_owned())].into_iter().collect();
    parse(line.split(' ').map(OsString::from), &environment)
}

#[test]
fn commands_take_the_options_they_use() {
    use clap::error::ErrorKind::{
        DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, InvalidSubcommand, UnknownArgument,
        ValueValidation,
    };
    let bad = |line: &str, kind| match read_line(line) {
        Err(Unusable::Arguments(error)) => assert_eq!(error.kind(), kind, "{line}"),
        other => panic!("{line}: {other:?}"),
    };
    bad("walcast", DisplayHelpOnMissingArgumentOrSubcommand);
    bad("walcast --help", DisplayHelp);
    bad("walcast polish", InvalidSubcommand);
    bad("walcast serve --prot 1", UnknownArgument);
    bad("walcast doctor --port 1", UnknownArgument);
    bad("walcast policies --port 1", UnknownArgument);
    bad("walcast dev --jwt-secret x", UnknownArgument);
    bad("walcast token --expires-in 5", ValueValidation);
    bad("walcast listen --table a --url ftp://x", ValueValidation);
}

#[test]
fn flags_reach_the_configuration() {
    let line = "walcast serve --port 7 --slot-temporary --log-level debug --log-format json";
    let Ok(Invocation::Serve(config)) = read_line(line) else { panic!("{line}") };
    assert_eq!(config.http.port, 7);
    assert!(config.replication.options.temporary);
    assert_eq!((config.log.filter.as_str(), config.log.format), ("debug", LogFormat::Json));

    let line = "walcast serve --slot-temporary=false";
    let Ok(Invocation::Serve(config)) = read_line(line) else { panic!("{line}") };
    assert!(!config.replication.options.temporary);
}

#[test]
fn other_commands_are_read() {
    let line = "walcast dev --port 0 --database-port 1 --keep /x";
    let Ok(Invocation::Dev(arguments)) = read_line(line) else { panic!("{line}") };
    assert_eq!((arguments.port, arguments.database_port), (0, Some(1)));
    assert_eq!(arguments.keep, Some("/x".into()));
    assert_eq!(arguments.log().filter, "warn");

    let line = "walcast token --role anon --sub x --claim a=b --claim c=1 --expires-in 1h";
    let Ok(Invocation::Token(token)) = read_line(line) else { panic!("{line}") };
    assert_eq!(token.split('.').count(), 3);

    let line = "walcast listen --table a --token x";
    let Ok(Invocation::Listen(options)) = read_line(line) else { panic!("{line}") };
    assert_eq!(options.token, "x");

    let line = "walcast doctor --database-url postgres://db";
    let Ok(Invocation::Doctor(config)) = read_line(line) else { panic!("{line}") };
    assert_eq!(config.database.address(), "db:5432");

    let line = "walcast migrate --bootstrap --publication one,two";
    let Ok(Invocation::Migrate { config, bootstrap: true, ddl_triggers: true }) = read_line(line)
    else {
        panic!("{line}")
    };
    assert_eq!(config.replication.options.publications, ["one", "two"]);

    let line = "walcast migrate --without-ddl-triggers";
    let Ok(Invocation::Migrate { bootstrap: false, ddl_triggers: false, .. }) = read_line(line)
    else {
        panic!("{line}")
    };
}

#[test]
fn what_cannot_be_used_is_named() {
    let check = |line: &str, expected: &str| match read_line(line) {
        Err(Unusable::Configuration(error)) => {
            assert!(error.to_string().contains(expected), "{line}: {error}");
        }
        other => panic!("{line}: {other:?}"),
    };
    check("walcast serve --port x", "--port");
    check("walcast doctor --database-url x", "--database-url");
    check("walcast token --claim a=1 --claim a=2", "claim a");
    check("walcast token --claim role=anon", "the token");
    check("walcast listen --table a --token=", "--token");
}
