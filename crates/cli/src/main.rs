//! The `pcaphub` command: arguments into a plan, the hub run, messages for people.

mod arguments;
mod cert;
mod check;
mod command;
mod completions;
mod exit;
mod help;
mod interfaces;
mod logging;
mod print_config;
mod manual;
mod privilege;
mod progress;
mod reload;
mod record;
mod run;
mod service;
mod signals;
mod status;
mod summary;
mod task;
mod top;
mod wiring;
mod words;

use std::process::ExitCode;

use task::Task;

fn main() -> ExitCode {
    let task = match arguments::parse() {
        Ok(task) => task,
        Err(exit) => return exit,
    };
    let done = match task {
        Task::Hub(arguments) => {
            let file = arguments.config.clone();
            match (wiring::run(*arguments), file) {
                (Err(error), Some(file)) => return exit::report_run(&error, &file),
                (done, _) => done,
            }
        }
        Task::PrintConfig(arguments) => print_config::run(&arguments),
        Task::Check(files) => check::run(&files),
        Task::Cert(ask) => cert::run(&ask),
        Task::Interfaces(form) => interfaces::run(form),
        Task::Top(ask) => top::run(&ask),
        Task::Manual(pages) => manual::run(&pages, command::built()),
        Task::Completions(shell) => completions::run(shell, command::built()),
    };
    match done {
        Ok(exit) => exit,
        Err(error) => exit::report(&error),
    }
}
