//! The command line.

mod listen;
mod token;

use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::{
    app,
    config::{Config, ConfigError, Environment, Flags, Group, Purpose},
    dev::{self, DevOptions},
    doctor,
    embedded::{SearchPaths, guard},
    migrate::{self, Bootstrap},
    telemetry,
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

/// A wrong command line or configuration. It is clap's code, too.
const UNUSABLE: u8 = 2;

const DOCTOR_GROUPS: &[Group] = &[Group::Sources, Group::Database, Group::Replication, Group::Jwt];
const MIGRATE_GROUPS: &[Group] = &[Group::Sources, Group::Database, Group::Replication];

/// What failed, and so what the process ends with.
enum Failure {
    /// The command line or the configuration cannot be used.
    Unusable(anyhow::Error),
    /// It could be used, and then something went wrong.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Unusable(error.into())
    }
}

/// Runs the command line of this process, and gives its exit code.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // Nothing is left to be done when even this cannot be printed.
            drop(error.print());
            return if error.use_stderr() { UNUSABLE.into() } else { ExitCode::SUCCESS };
        }
    };
    let (error, code) = match dispatch(&matches) {
        Ok(code) => return code,
        Err(Failure::Unusable(error)) => (error, UNUSABLE.into()),
        Err(Failure::Failed(error)) => (error, ExitCode::FAILURE),
    };
    drop(writeln!(io::stderr().lock(), "error: {error:#}"));
    code
}

/// The whole command line.
#[must_use]
pub fn command() -> Command {
    Command::new("walcast")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .after_help(EXIT_CODES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Flags::declare(
            Command::new("serve")
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
            Command::new("dev")
                .about("Try it out: a private PostgreSQL, demo tables and a server")
                .long_about(
                    "Starts a private PostgreSQL with demo tables and a server for it on this \
                     machine, and prints keys and a snippet to paste. Ends with Ctrl-C and leaves \
                     nothing behind. Needs PostgreSQL's programs: PG_BIN names their folder, else \
                     the usual places are searched.",
                ),
        ))
        .subcommand(Flags::declare(
            TokenArguments::augment_args(Command::new("token").about("Make a token").long_about(
                "Prints a token signed with the JWT secret (HS256).\n\n\
                 Example:\n  walcast token --role authenticated --sub USER-ID --expires-in 1h",
            )),
            token::GROUPS,
        ))
        .subcommand(Flags::declare(
            ListenArguments::augment_args(
                Command::new("listen").about("Print the changes that a token may see").long_about(
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
            Command::new("doctor").about("Say what is wrong with a database").long_about(
                "Looks at a database as the server would and prints one line for each finding, \
                 with the SQL that mends it. Changes nothing. Exits with 1 when something is wrong.",
            ),
            DOCTOR_GROUPS,
        ))
        .subcommand(Flags::declare(
            MigrateArguments::augment_args(
                Command::new("migrate").about("Prepare a database").long_about(
                    "Creates in the database what the server needs and what is missing, and prints \
                     what was done. What is there is never replaced, so it can be run at any time.",
                ),
            ),
            MIGRATE_GROUPS,
        ))
        .subcommand(guard::Arguments::augment_args(Command::new(guard::SUBCOMMAND).hide(true)))
}

#[derive(Args, Debug)]
struct DevArguments {
    /// The port of 127.0.0.1 for clients; 0 takes a free one.
    #[arg(long, value_name = "NUMBER", default_value_t = 4000)]
    port: u16,
    /// The port of 127.0.0.1 for PostgreSQL; a free one by default.
    #[arg(long, value_name = "NUMBER")]
    database_port: Option<u16>,
    /// A data folder to use and to leave; without it the data ends with the command.
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// What is logged: error, warn, info, debug, trace or off.
    #[arg(long, value_name = "TEXT", default_value = "warn")]
    log_level: String,
}

#[derive(Args, Debug)]
struct MigrateArguments {
    /// Create the roles anon, authenticated and service_role and the schema auth, where they are
    /// missing. A database of Supabase has them.
    #[arg(long)]
    bootstrap: bool,
}

fn dispatch(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let Some((name, matches)) = matches.subcommand() else { return Ok(UNUSABLE.into()) };
    if name == guard::SUBCOMMAND {
        // The guard forks and waits: it runs without the threads of a runtime.
        guard::run(&parse(matches)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let environment = Environment::of_process();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| anyhow::Error::new(error).context("cannot start the runtime"))?;
    let flags = Flags::from_matches(matches);
    match name {
        "serve" => {
            let config = Config::load(&flags, &environment, Purpose::Serve)?;
            open_log(&config)?;
            runtime.block_on(app::serve(config))?;
            Ok(ExitCode::SUCCESS)
        }
        "dev" => {
            let arguments: DevArguments = parse(matches)?;
            let log = crate::config::LogConfig {
                filter: arguments.log_level,
                format: crate::config::LogFormat::Text,
            };
            telemetry::open_log(&log).map_err(|error| Failure::Unusable(error.into()))?;
            let search = SearchPaths::new(
                environment.variable("PG_BIN").map(PathBuf::from),
                environment.variable("PATH").map(OsString::from),
            );
            runtime.block_on(dev::run(DevOptions {
                port: arguments.port,
                database_port: arguments.database_port,
                keep: arguments.keep,
                search,
            }))?;
            Ok(ExitCode::SUCCESS)
        }
        "token" => {
            let arguments: TokenArguments = parse(matches)?;
            let config = Config::load(&flags, &environment, Purpose::Inspect)?;
            let token = arguments.mint(&config).map_err(Failure::Unusable)?;
            print_lines(&[token])?;
            Ok(ExitCode::SUCCESS)
        }
        "listen" => {
            let arguments: ListenArguments = parse(matches)?;
            let options = arguments.options(&flags, &environment).map_err(Failure::Unusable)?;
            Ok(runtime.block_on(listen::until_interrupted(&options))?)
        }
        "doctor" => {
            let config = Config::load(&flags, &environment, Purpose::Inspect)?;
            Ok(runtime.block_on(doctor::run(&config))?)
        }
        "migrate" => {
            let arguments: MigrateArguments = parse(matches)?;
            let config = Config::load(&flags, &environment, Purpose::Inspect)?;
            let bootstrap = if arguments.bootstrap { Bootstrap::Yes } else { Bootstrap::No };
            for publication in &config.replication.options.publications {
                let done =
                    runtime.block_on(migrate::run(&config.database, bootstrap, publication))?;
                print_lines(&done)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        other => Err(Failure::Unusable(anyhow::anyhow!("{other} is not a command"))),
    }
}

fn parse<Arguments: FromArgMatches>(matches: &ArgMatches) -> Result<Arguments, Failure> {
    Arguments::from_arg_matches(matches).map_err(|error| Failure::Unusable(error.into()))
}

fn open_log(config: &Config) -> Result<(), Failure> {
    telemetry::open_log(&config.log).map_err(|error| Failure::Unusable(error.into()))?;
    for notice in &config.notices {
        tracing::info!("{notice}");
    }
    Ok(())
}

fn print_lines(lines: &[String]) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    for line in lines {
        writeln!(output, "{line}")?;
    }
    Ok(output.flush()?)
}

#[cfg(test)]
mod tests;
