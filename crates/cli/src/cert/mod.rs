//! `pcaphub cert`: a private authority, certificates that it issues, and what a certificate says.
//!
//! Keys are files of mode 0600 in a directory of mode 0700; nothing that is there is overwritten.

mod new;
mod output;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, Result};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use pcaphub::opener::System;
use pcaphub::tls::{self, Certificate};

use self::new::New;

/// What is to be done.
pub(crate) enum Ask {
    New(New),
    Show(PathBuf),
}

pub(crate) fn command() -> Command {
    let days = |id: &'static str, default: &'static str, help: &'static str| {
        let days = value_parser!(u32).range(1..=36500);
        Arg::new(id).long(id).value_name("DAYS").default_value(default).value_parser(days).help(help)
    };
    let new = Command::new("new")
        .about("Makes an authority, and certificates for a server and for clients")
        .arg(
            Arg::new("dir")
                .value_name("DIR")
                .default_value("pcaphub-certs")
                .value_parser(value_parser!(PathBuf))
                .help("Where to; an authority that is there is used again"),
        )
        .arg(
            Arg::new("name")
                .long("name")
                .visible_alias("host")
                .value_name("NAME")
                .action(ArgAction::Append)
                .help("A name or address by which clients reach the server; repeats [default: those of this machine]"),
        )
        .arg(
            Arg::new("client")
                .long("client")
                .value_name("NAME")
                .action(ArgAction::Append)
                .help("A client, who has this name in logs and counts; repeats [default: one called client]"),
        )
        .arg(days("days", "397", "How long certificates are valid"))
        .arg(days("ca-days", "3650", "How long the authority is"))
        .after_help(
            "Examples:\n  \
             pcaphub cert new                                  for this machine, in pcaphub-certs/\n  \
             pcaphub cert new certs --name hub.example.org --name 192.0.2.7 --client alice\n  \
             pcaphub cert new certs --client bob               one more, of the same authority",
        );
    let show = Command::new("show")
        .about("Names, expiry and pin of the certificates in a file")
        .arg(Arg::new("file").value_name("FILE").required(true).value_parser(value_parser!(PathBuf)));
    Command::new("cert")
        .about("Certificates for tls:// and tls-listen://")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(new)
        .subcommand(show)
}

/// What the command line asks for.
pub(crate) fn ask(matches: &ArgMatches) -> Ask {
    let all = |matches: &ArgMatches, id| matches.get_many(id).into_iter().flatten().cloned().collect();
    match matches.subcommand() {
        Some(("show", matches)) => Ask::Show(matches.get_one("file").cloned().unwrap_or_default()),
        Some((_, matches)) => Ask::New(New {
            folder: matches.get_one("dir").cloned().unwrap_or_default(),
            names: all(matches, "name"),
            clients: all(matches, "client"),
            days: matches.get_one("days").copied().unwrap_or(397),
            ca_days: matches.get_one("ca-days").copied().unwrap_or(3650),
        }),
        None => Ask::Show(PathBuf::new()),
    }
}

/// Does it, and says what to type next.
///
/// # Errors
/// A file that is there already, cannot be written or cannot be read; a name that no certificate can have.
pub(crate) fn run(ask: &Ask) -> Result<ExitCode> {
    let text = match ask {
        Ask::New(new) => new.make()?,
        Ask::Show(file) => show(file)?,
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn show(file: &Path) -> Result<String> {
    let certificates = tls::certificates(&System, file)?;
    let mut text = String::new();
    for der in certificates {
        let certificate = Certificate::read(&der).context("the certificate cannot be read")?;
        let name = certificate.name.as_deref().unwrap_or("(no name)");
        text += &format!("{name}{}\n", if certificate.is_ca { ", an authority" } else { "" });
        if !certificate.names.is_empty() {
            text += &format!("  names    {}\n", certificate.names.join(", "));
        }
        text += &format!("  issuer   {}\n", certificate.issuer);
        let expired = if SystemTime::now() > certificate.not_after { " (expired)" } else { "" };
        text += &format!("  expires  {}{expired}\n", certificate.expires);
        text += &format!("  pin      {}\n", certificate.pin);
    }
    Ok(text)
}
