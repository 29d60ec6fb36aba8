//! The command line.

mod listen;
mod token;

use std::{ffi::OsString, path::PathBuf};

use clap::{ArgMatches, Args, FromArgMatches};

use crate::{
    config::{Config, Environment, Flags, Group, LogConfig, LogFormat, Purpose},
    listen::ListenOptions,
};

use listen::ListenArguments;
use token::TokenArguments;

const ABOUT: &str = "Turns PostgreSQL into a realtime backend: committed changes reach the clients \
                     that may see them.";

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed while running, refused by a server, or something found by doctor
  2  a command line or a configuration that cannot be used";

const HEALTHCHECK_GROUPS: &[Group] = &[Group::Sources, Group::Http];
const DOCTOR_GROUPS: &[Group] = &[Group::Sources, Group::Database, Group::Replication, Group::Jwt];
const MIGRATE_GROUPS: &[Group] = &[Group::Sources, Group::Database, Group::Replication];

/// What a command line asks for, with everything that can be checked beforehand checked.
#[derive(Debug)]
pub enum Invocation {
    /// Serve clients.
    Serve(Box<Config>),
    /// Run everything on this machine, for trying it out.
    Dev(DevArguments),
    /// Print this token.
    Token(String),
    /// Print changes.
    Listen(ListenOptions),
    /// Ask a server of this machine whether it works.
    Healthcheck(Box<Config>),
    /// Look at a database.
    Doctor(Box<Config>),
    /// List the policies of a database.
    Policies(Box<Config>),
    /// Prepare a database.
    Migrate {
        /// Where it is, and what will be read from it.
        config: Box<Config>,
        /// Whether to create the roles and the schema that Supabase has.
        bootstrap: bool,
        /// Whether to create the event triggers that announce changes of definitions.
        ddl_triggers: bool,
    },
}

/// Why nothing can be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// The command line is wrong, or asks for help; clap knows how to print it.
    #[error(transparent)]
    Arguments(#[from] clap::Error),
    /// The configuration or the meaning of an argument is wrong.
    #[error(transparent)]
    Configuration(#[from] anyhow::Error),
}

/// What `walcast dev` can be told.
#[derive(Args, Clone, Debug)]
pub struct DevArguments {
    /// The port of 127.0.0.1 for clients; 0 takes a free one.
    #[arg(long, value_name = "NUMBER", default_value_t = 4000)]
    pub port: u16,
    /// The port of 127.0.0.1 for PostgreSQL; a free one by default.
    #[arg(long, value_name = "NUMBER")]
    pub database_port: Option<u16>,
    /// A data folder to use and to leave; without it the data ends with the command.
    #[arg(long, value_name = "FOLDER")]
    pub keep: Option<PathBuf>,
    /// What is logged: error, warn, info, debug, trace or off.
    #[arg(long, value_name = "TEXT", default_value = "warn")]
    pub log_level: String,
}

impl DevArguments {
    /// How to log.
    #[must_use]
    pub fn log(&self) -> LogConfig {
        LogConfig { filter: self.log_level.clone(), format: LogFormat::Text }
    }
}

#[derive(Args, Debug)]
struct MigrateArguments {
    /// Create the roles anon, authenticated and service_role and the schema auth, where they are
    /// missing. A database of Supabase has them.
    #[arg(long)]
    bootstrap: bool,
    /// Leave out the event triggers that tell the server of each change of a definition at its
    /// place. Such changes then take effect within two seconds.
    #[arg(long)]
    without_ddl_triggers: bool,
}

/// Reads a command line with its environment.
///
/// # Errors
/// It cannot be used, or asks for help.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &Environment,
) -> Result<Invocation, Unusable> {
    let matches = command().try_get_matches_from(arguments)?;
    let Some((name, matches)) = matches.subcommand() else {
        return Err(command()
            .error(clap::error::ErrorKind::MissingSubcommand, "no command")
            .into());
    };
    read(name, matches, environment)
}

fn read(
    name: &str,
    matches: &ArgMatches,
    environment: &Environment,
) -> Result<Invocation, Unusable> {
    let flags = Flags::from_matches(matches);
    let load = |purpose| {
        Config::load(&flags, environment, purpose)
            .map(Box::new)
            .map_err(|error| Unusable::Configuration(error.into()))
    };
    Ok(match name {
        "serve" => Invocation::Serve(load(Purpose::Serve)?),
        "dev" => Invocation::Dev(DevArguments::from_arg_matches(matches)?),
        "token" => {
            let arguments = TokenArguments::from_arg_matches(matches)?;
            Invocation::Token(arguments.mint(&*load(Purpose::Inspect)?)?)
        }
        "listen" => {
            let arguments = ListenArguments::from_arg_matches(matches)?;
            Invocation::Listen(arguments.options(&flags, environment)?)
        }
        "healthcheck" => Invocation::Healthcheck(load(Purpose::Inspect)?),
        "doctor" => Invocation::Doctor(load(Purpose::Inspect)?),
        "policies" => Invocation::Policies(load(Purpose::Inspect)?),
        // The last one; clap lets no other name through.
        _ => {
            let MigrateArguments { bootstrap, without_ddl_triggers } =
                MigrateArguments::from_arg_matches(matches)?;
            let ddl_triggers = !without_ddl_triggers;
            Invocation::Migrate { config: load(Purpose::Inspect)?, bootstrap, ddl_triggers }
        }
    })
}

/// The whole command line.
#[must_use]
pub fn command() -> clap::Command {
    clap::Command::new("walcast")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .after_help(EXIT_CODES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Flags::declare(
            clap::Command::new("serve")
                .about("Serve clients")
                .long_about(
                    "Serves clients until SIGTERM or Ctrl-C.\n\n\
                     Every option can also be a variable or a key of the TOML file that --config \
                     names. A flag wins over a variable, a variable over the file.",
                )
                .after_help(
                    "Example:\n  \
                     DATABASE_URL=postgres://walcast:…@db.example.com/app JWT_SECRET=… walcast serve",
                ),
            Group::ALL,
        ))
        .subcommand(DevArguments::augment_args(
            clap::Command::new("dev")
                .about("Try it out: a private PostgreSQL, demo tables and a server")
                .long_about(
                    "Starts a private PostgreSQL with demo tables and a server for it on this \
                     machine, and prints keys and a snippet to paste. Ends with Ctrl-C and leaves \
                     nothing behind. Needs PostgreSQL's programs: PG_BIN names their folder, else \
                     the usual places are searched.",
                ),
        ))
        .subcommand(Flags::declare(
            TokenArguments::augment_args(clap::Command::new("token").about("Make a token").long_about(
                "Prints a token signed with the JWT secret (HS256).\n\n\
                 Example:\n  walcast token --role authenticated --sub USER-ID --expires-in 1h",
            )),
            token::GROUPS,
        ))
        .subcommand(Flags::declare(
            ListenArguments::augment_args(
                clap::Command::new("listen").about("Print the changes that a token may see").long_about(
                    "Connects to a server as clients do and prints each change as one line of \
                     JSON; what else happens goes to standard error. Ends with an error when it is \
                     refused or the connection ends: it never connects again, since it would \
                     hide what was missed.\n\n\
                     Example:\n  \
                     walcast listen --token TOKEN --table public.messages --filter 'id=gt.10'",
                ),
            ),
            token::GROUPS,
        ))
        .subcommand(Flags::declare(
            clap::Command::new("healthcheck").about("Ask a server whether it works").long_about(
                "Asks /healthcheck of the server at --port on this machine and prints the answer. \
                 Exits with 1 when changes do not reach clients or nobody answers.",
            ),
            HEALTHCHECK_GROUPS,
        ))
        .subcommand(Flags::declare(
            clap::Command::new("doctor").about("Say what is wrong with a database").long_about(
                "Looks at a database as the server would and prints one line for each finding, \
                 with the SQL that mends it. Changes nothing. Exits with 1 when something is wrong.",
            ),
            DOCTOR_GROUPS,
        ))
        .subcommand(Flags::declare(
            clap::Command::new("policies").about("Say who decides each policy").long_about(
                "Lists the policies for SELECT of the tables in the publication, one line each: \
                 whether walcast decides it in process, or why PostgreSQL is asked for each change. \
                 Changes nothing.",
            ),
            DOCTOR_GROUPS,
        ))
        .subcommand(Flags::declare(
            MigrateArguments::augment_args(
                clap::Command::new("migrate").about("Prepare a database").long_about(
                    "Creates in the database what the server needs and what is missing, and prints \
                     what was done. What is there is never replaced, so it can be run at any time.",
                ),
            ),
            MIGRATE_GROUPS,
        ))
}

#[cfg(test)]
mod tests;
