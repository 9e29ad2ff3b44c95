//! `pcaphub man`: manual pages, from the same words as the help.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;
use clap::{Arg, ArgMatches, Command, value_parser};
use clap_mangen::Man;

/// Which pages, and where to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pages {
    /// One page to standard output: of a verb, or of pcaphub itself.
    One(Option<String>),
    /// All of them into a directory.
    All(PathBuf),
}

/// The verb, for the command line.
pub(crate) fn command() -> Command {
    Command::new("man")
        .about("Manual pages: one to standard output, or all into a directory")
        .arg(Arg::new("verb").value_name("VERB").help("Whose page; without it, the one of pcaphub itself"))
        .arg(
            Arg::new("dir")
                .long("dir")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .conflicts_with("verb")
                .help("Write every page into this directory, made if need be"),
        )
        .after_help(
            "Examples:\n  pcaphub man | man -l -\n  pcaphub man serve | man -l -\n  \
             pcaphub man --dir ~/.local/share/man/man1",
        )
}

/// The pages that were asked for.
pub(crate) fn pages(matches: &ArgMatches) -> Pages {
    match matches.get_one::<PathBuf>("dir") {
        Some(directory) => Pages::All(directory.clone()),
        None => Pages::One(matches.get_one::<String>("verb").cloned()),
    }
}

/// Writes them, of this command line.
///
/// # Errors
/// There is no such verb; a page cannot be written.
pub(crate) fn run(pages: &Pages, whole: Command) -> anyhow::Result<ExitCode> {
    match pages {
        Pages::One(verb) => {
            let name = verb.as_ref().map_or("pcaphub".to_owned(), |verb| format!("pcaphub-{verb}"));
            let page = all(whole).into_iter().find(|(known, _)| *known == name);
            let (_, page) =
                page.ok_or_else(|| anyhow!("there is no page {name}; `pcaphub --help` lists the verbs"))?;
            match io::stdout().lock().write_all(&render(page)?) {
                // Who reads has seen enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                written => written.map_err(|error| anyhow!("cannot print the page: {error}"))?,
            }
        }
        Pages::All(directory) => {
            std::fs::create_dir_all(directory)
                .map_err(|error| anyhow!("cannot make {}: {error}", directory.display()))?;
            all(whole).into_iter().try_for_each(|(name, page)| write(directory, &name, page))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write(directory: &Path, name: &str, page: Command) -> anyhow::Result<()> {
    let path = directory.join(format!("{name}.1"));
    std::fs::write(&path, render(page)?).map_err(|error| anyhow!("cannot write {}: {error}", path.display()))
}

/// The name and command of every page: pcaphub, and its verbs.
fn all(whole: Command) -> Vec<(String, Command)> {
    let mut whole = whole.disable_help_subcommand(true);
    whole.build();
    let verbs = whole.get_subcommands().filter(|verb| !verb.is_hide_set());
    let of_verb = |verb: &Command| {
        let name = format!("pcaphub-{}", verb.get_name());
        // The page names the command as it is typed.
        (name.clone(), verb.clone().display_name(name).bin_name(format!("pcaphub {}", verb.get_name())))
    };
    let verbs: Vec<_> = verbs.map(of_verb).collect();
    [("pcaphub".to_owned(), whole.clone())].into_iter().chain(verbs).collect()
}

/// What the pages are of.
const SOURCE: &str = concat!("pcaphub ", env!("CARGO_PKG_VERSION"));

fn render(command: Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    // A blank for the date: the same sources give the same page.
    let man = Man::new(command).section("1").date(" ").source(SOURCE).manual("pcaphub");
    man.render(&mut page)?;
    let page = String::from_utf8_lossy(&page).into_owned();
    let Some((before, rest)) = page.split_once(".SH EXTRA\n") else { return Ok(page.into_bytes()) };
    // What stands in columns in the help is to stay so.
    let (extra, after) = rest
        .split_once(".SH ")
        .map_or((rest, String::new()), |(extra, after)| (extra, format!(".SH {after}")));
    Ok(format!("{before}.SH NOTES\n.nf\n{extra}.fi\n{after}").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::built;

    #[test]
    fn every_verb_has_a_page() {
        let pages = all(built());
        let verbs = built();
        for verb in verbs.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let name = format!("pcaphub-{}", verb.get_name());
            let (_, page) = pages.iter().find(|(known, _)| *known == name).unwrap();
            let text = String::from_utf8(render(page.clone()).unwrap()).unwrap();
            assert!(text.contains(".SH SYNOPSIS"), "{name}: {text}");
            assert!(!text.contains(".SH EXTRA"), "{name}: {text}");
        }
        assert!(pages.iter().any(|(name, _)| name == "pcaphub"));
    }

    #[test]
    fn a_page_that_does_not_exist_says_where_to_look() {
        let error = run(&Pages::One(Some("levitate".into())), built()).unwrap_err().to_string();
        assert_eq!(error, "there is no page pcaphub-levitate; `pcaphub --help` lists the verbs");
    }
}
