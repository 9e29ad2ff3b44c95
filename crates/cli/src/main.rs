//! The `pcaphub` command: arguments into a plan, the hub run, messages for people.

mod arguments;
mod exit;
mod help;
mod interfaces;
mod logging;
mod progress;
mod service;
mod signals;
mod summary;
mod wiring;

use std::process::ExitCode;

use arguments::Task;

fn main() -> ExitCode {
    let task = match arguments::parse() {
        Ok(task) => task,
        Err(exit) => return exit,
    };
    let done = match task {
        Task::Hub(arguments) => wiring::run(*arguments),
        Task::Interfaces(form) => interfaces::run(form),
    };
    match done {
        Ok(exit) => exit,
        Err(error) => exit::report(&error),
    }
}
