//! The command line's share of the options.

use std::{collections::BTreeMap, fmt};

use clap::{Arg, ArgMatches, Command};

use super::options::{ALL, Group, Kind, OptionSpec};

/// The options given on the command line.
#[derive(Clone, Default)]
pub struct Flags(BTreeMap<&'static str, String>);

impl Flags {
    /// Adds a flag for every option of these groups to a command.
    #[must_use]
    pub fn declare(mut command: Command, groups: &[Group]) -> Command {
        for option in ALL.iter().filter(|option| groups.contains(&option.group)) {
            command = command.arg(argument(option));
        }
        command
    }

    /// Reads them back.
    #[must_use]
    pub fn from_matches(matches: &ArgMatches) -> Self {
        ALL.iter()
            .filter_map(|option| {
                let text = matches.try_get_one::<String>(option.name).ok().flatten()?;
                Some((option.name, text.clone()))
            })
            .collect()
    }

    /// The value given for an option.
    pub(super) fn value(&self, option: &OptionSpec) -> Option<&str> {
        self.0.get(option.name).map(String::as_str)
    }
}

impl FromIterator<(&'static str, String)> for Flags {
    fn from_iter<I: IntoIterator<Item = (&'static str, String)>>(flags: I) -> Self {
        Self(flags.into_iter().collect())
    }
}

/// Names only: a flag may hold a secret.
impl fmt::Debug for Flags {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

fn argument(option: &'static OptionSpec) -> Arg {
    let mut notes = String::new();
    if let Kind::Choice(words) = option.kind {
        notes.push_str(&format!("\n\nOne of: {}", words.join(", ")));
    }
    if let Some(default) = option.default {
        notes.push_str(&format!("\n\nDefault: {default}"));
    }
    notes.push_str(&format!("\n\nVariables: {}", option.own_variable()));
    for variable in option.variables {
        notes.push_str(&format!(", {}", variable.name));
    }
    let short = match option.default {
        Some(default) => format!("{} [{default}]", option.short_doc()),
        None => option.short_doc().to_owned(),
    };
    let argument = Arg::new(option.name)
        .long(option.name)
        .value_name(value_name(option.kind))
        .help(short)
        .long_help(format!("{}{notes}", option.doc))
        .help_heading(option.group.heading());
    if option.kind == Kind::Boolean {
        // The flag alone means true.
        argument.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        argument
    }
}

const fn value_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "TEXT",
        Kind::Secret => "SECRET",
        Kind::File => "FILE",
        Kind::Number { .. } => "NUMBER",
        Kind::Bytes => "SIZE",
        Kind::Duration => "DURATION",
        Kind::Boolean => "BOOLEAN",
        Kind::Choice(_) => "WORD",
        Kind::List => "NAMES",
        Kind::Json => "JSON",
    }
}
