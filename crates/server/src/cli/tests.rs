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

fn parse_line(line: &str) -> Result<ArgMatches, clap::error::ErrorKind> {
    command().try_get_matches_from(line.split(' ')).map_err(|error| error.kind())
}

#[test]
fn commands_take_the_options_they_use() {
    use clap::error::ErrorKind::{DisplayHelpOnMissingArgumentOrSubcommand, UnknownArgument};
    let good = |line: &str| assert!(parse_line(line).is_ok(), "{line}");
    good("walcast serve");
    good("walcast serve --port 1 --database-url postgres://x --slot-temporary");
    good("walcast serve --slot-temporary=false --log-format json");
    good("walcast dev --port 0 --database-port 1 --keep /x");
    good(
        "walcast token --role anon --sub x --claim a=b --claim c=1 --expires-in 1h --jwt-secret x",
    );
    good("walcast listen --table a --token x");
    good("walcast doctor --database-url postgres://x");
    good("walcast migrate --bootstrap --publication x --database-host y");
    let bad = |line: &str, kind| assert_eq!(parse_line(line).map(drop), Err(kind), "{line}");
    bad("walcast", DisplayHelpOnMissingArgumentOrSubcommand);
    bad("walcast serve --prot 1", UnknownArgument);
    bad("walcast doctor --port 1", UnknownArgument);
    bad("walcast dev --jwt-secret x", UnknownArgument);
}

#[test]
fn flags_reach_the_configuration() {
    let matches =
        parse_line("walcast serve --port 7 --slot-temporary --jwt-secret x --log-level debug")
            .unwrap();
    let (_, matches) = matches.subcommand().unwrap();
    let flags = Flags::from_matches(matches);
    let config = Config::load(&flags, &Environment::default(), Purpose::Serve).unwrap();
    assert_eq!(config.http.port, 7);
    assert!(config.replication.options.temporary);
    assert_eq!(config.log.filter, "debug");
}
