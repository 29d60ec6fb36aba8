//! The `walcast` program: reads the command line, runs what it asks for, gives the exit code.

use std::{
    env,
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, Command, FromArgMatches};
use tokio::runtime::Runtime;
use walcast_server::{
    app,
    cli::{self, Invocation, Unusable},
    config::{Config, Environment, LogConfig},
    dev::{self, DevOptions},
    doctor,
    embedded::{SearchPaths, guard},
    healthcheck,
    listen::{self, ListenOptions},
    migrate::{self, Bootstrap, DdlTriggers, Scope},
    policies,
    telemetry::{self, LogControl},
};

/// A command line or a configuration that cannot be used. It is clap's code, too.
const UNUSABLE: u8 = 2;

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = env::args_os().collect();
    // `walcast dev` starts itself under this name to guard its PostgreSQL. Nobody else does, so it
    // is no command of the command line. It runs without the threads of a runtime.
    if arguments.get(1).is_some_and(|name| name == guard::SUBCOMMAND) {
        return finish(run_guard(arguments.split_off(1)));
    }
    let environment = Environment::of_process();
    match cli::parse(arguments, &environment) {
        Ok(invocation) => finish(run(invocation, &environment)),
        Err(Unusable::Arguments(error)) => {
            // Nothing is left to be done when even this cannot be printed.
            drop(error.print());
            if error.use_stderr() { UNUSABLE.into() } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            complain(&error.into());
            UNUSABLE.into()
        }
    }
}

fn run(invocation: Invocation, environment: &Environment) -> anyhow::Result<ExitCode> {
    let runtime = Runtime::new().context("cannot start the runtime")?;
    match invocation {
        Invocation::Serve(config) => {
            let log = match open_log(&config.log) {
                Ok(log) => log,
                Err(code) => return Ok(code),
            };
            for notice in &config.notices {
                tracing::info!("{notice}");
            }
            runtime.block_on(app::serve(*config, log))?;
        }
        Invocation::Dev(arguments) => {
            if let Err(code) = open_log(&arguments.log()) {
                return Ok(code);
            }
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
        }
        Invocation::Token(token) => print_lines(&[token])?,
        Invocation::Listen(options) => return runtime.block_on(listen_until_ctrl_c(&options)),
        Invocation::Healthcheck(config) => {
            let (code, answer) = runtime.block_on(healthcheck::run(&config.http))?;
            print_lines(&[answer])?;
            return Ok(code);
        }
        Invocation::Doctor(config) => return runtime.block_on(doctor::run(&config)),
        Invocation::Policies(config) => runtime.block_on(policies::run(&config))?,
        Invocation::Migrate { config, bootstrap, ddl_triggers } => {
            runtime.block_on(migrate_all(&config, bootstrap, ddl_triggers))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn migrate_all(config: &Config, bootstrap: bool, ddl_triggers: bool) -> anyhow::Result<()> {
    let bootstrap = if bootstrap { Bootstrap::Yes } else { Bootstrap::No };
    let triggers = if ddl_triggers { DdlTriggers::Yes } else { DdlTriggers::No };
    for publication in &config.replication.options.publications {
        let scope = Scope::Everything { bootstrap, ddl_triggers: triggers, publication };
        print_lines(&migrate::run(&config.database, scope).await?)?;
    }
    Ok(())
}

/// Listens until it is over. Ctrl-C is a good end.
async fn listen_until_ctrl_c(options: &ListenOptions) -> anyhow::Result<ExitCode> {
    let (mut output, mut status) = (io::stdout(), io::stderr());
    tokio::select! {
        code = listen::run(options, &mut output, &mut status) => code,
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::SUCCESS),
    }
}

fn run_guard(arguments: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let command = guard::Arguments::augment_args(Command::new(guard::SUBCOMMAND));
    let arguments = guard::Arguments::from_arg_matches(&command.try_get_matches_from(arguments)?)?;
    guard::run(&arguments)?;
    Ok(ExitCode::SUCCESS)
}

fn open_log(config: &LogConfig) -> Result<LogControl, ExitCode> {
    telemetry::open_log(config).map_err(|error| {
        complain(&error.into());
        ExitCode::from(UNUSABLE)
    })
}

fn print_lines(lines: &[String]) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    for line in lines {
        writeln!(output, "{line}")?;
    }
    Ok(output.flush()?)
}

fn finish(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        complain(&error);
        ExitCode::FAILURE
    })
}

fn complain(error: &anyhow::Error) {
    drop(writeln!(io::stderr().lock(), "error: {error:#}"));
}
