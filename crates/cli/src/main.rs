//! The `pcaphub` command: arguments into a plan, the hub run, messages for people.

mod arguments;
mod exit;
mod help;
mod interfaces;
mod logging;
mod progress;
mod signals;
mod summary;
mod wiring;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = match arguments::parse() {
        Ok(arguments::Parsed::Hub(arguments)) => arguments,
        Ok(arguments::Parsed::Interfaces { json }) => return interfaces::run(json),
        Err(exit) => return exit,
    };
    match wiring::run(*arguments) {
        Ok(exit) => exit,
        Err(error) => exit::report(&error),
    }
}
