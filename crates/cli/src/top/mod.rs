//! `pcaphub top`: what the hubs on this machine do, live on a terminal, or once for a script.

mod figures;
mod hubs;
mod looks;
mod plain;
mod rows;
mod screen;
mod view;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use clap::{Arg, ArgAction, ArgMatches, Command};
use pcaphub::escape::{escaped, escaped_json};
use pcaphub::plan;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use rustix::process::{Signal, kill_current_process_group};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::hubs::{Answer, Answers};
use self::view::{View, Wish};
use crate::exit;
use crate::status::{self, Found, Seen, Status};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// The shortest and the longest time between two looks.
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
/// Hubs that are asked: nobody has that many.
const MOST: usize = 256;

const HELP: &str = "\
Every pcaphub that moves packets can be looked at, without an option, by who started it and by
root: what each source gives, what each client and other sink has got, how fast, what is on its
way, what was lost and why. A client with a certificate has the name in it.

Where standard output is no terminal, or with --once, a table is printed once, and the rates are
those of one interval. ? explains keys and words.

Examples:
  pcaphub top                        the hubs of this user, ← and → from one to another
  sudo pcaphub top                   of everybody, also of the service
  pcaphub top 4711                   the hub with this process number
  pcaphub top --json | jq '.[].report.departed'";

/// The verb, for the command line.
pub(crate) fn command() -> Command {
    Command::new("top")
        .about("What the hubs on this machine do: sources, clients, rates, losses; live")
        .arg(
            Arg::new("hub").value_name("PID|SOCKET").value_parser(which).help(
                "The hub with this process number, or behind this socket; by default all that there are",
            ),
        )
        .arg(
            Arg::new("interval")
                .long("interval")
                .value_name("TIME")
                .default_value("1s")
                .value_parser(interval)
                .help("Time between two looks, from 100ms to 1h"),
        )
        .arg(Arg::new("once").long("once").action(ArgAction::SetTrue).help("Print a table once, as text"))
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .conflicts_with("once")
                .help("Print all counts once, as a JSON array with an object for each hub"),
        )
        .after_help(HELP)
}

/// A hub that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Which {
    /// The one with this process number.
    Pid(u32),
    /// The one behind this socket.
    Socket(String),
}

fn which(text: &str) -> Result<Which, String> {
    match text.parse() {
        Ok(pid) => Ok(Which::Pid(pid)),
        Err(_) if text.is_empty() => Err("it is a process number, or a path".into()),
        Err(_) => Ok(Which::Socket(text.to_owned())),
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let time = plan::duration(text)?;
    if !INTERVALS.contains(&time) {
        return Err("it is from 100ms to 1h".into());
    }
    Ok(time)
}

/// What was asked for.
pub(crate) struct Ask {
    hub: Option<Which>,
    interval: Duration,
    form: Form,
}

/// For whom it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A person, who goes on looking.
    Screen,
    /// A person or a script, once.
    Text,
    /// A script, once.
    Json,
}

/// Reads it from the command line.
pub(crate) fn ask(matches: &ArgMatches) -> Ask {
    let can_draw = || std::env::var("TERM").is_ok_and(|term| !term.is_empty() && term != "dumb");
    let form = match (matches.get_flag("json"), matches.get_flag("once")) {
        (true, _) => Form::Json,
        (false, false) if io::stdout().is_terminal() && can_draw() => Form::Screen,
        _ => Form::Text,
    };
    let hub = matches.get_one("hub").cloned();
    Ask { hub, interval: matches.get_one("interval").copied().unwrap_or(INTERVAL), form }
}

/// Shows or prints it.
///
/// # Errors
/// There is no such hub; the terminal is gone.
pub(crate) fn run(ask: &Ask) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        let first = asked(ask.hub.as_ref()).await;
        if !first.iter().any(|(_, answer)| matches!(answer, Answer::Status(_))) {
            return Err(anyhow!(nobody(ask.hub.as_ref(), &first, &status::find())));
        }
        match ask.form {
            Form::Json => {
                tell_of_others(&first, ask.hub.is_none());
                print(&json(first)?)
            }
            Form::Text => {
                tokio::time::sleep(ask.interval).await;
                let second = asked(ask.hub.as_ref()).await;
                tell_of_others(&second, ask.hub.is_none());
                print(&plain::text(&first, &second))
            }
            Form::Screen => look(ask, first).await,
        }
    });
    // A thread that waits for a key cannot be waited for.
    runtime.shutdown_background();
    done
}

/// Asks the hub that is meant, or all that are found.
async fn asked(hub: Option<&Which>) -> Answers {
    let mut hubs = match hub {
        Some(Which::Socket(path)) => Found::named(Path::new(path)).into_iter().collect(),
        _ => status::find().hubs,
    };
    if let Some(Which::Pid(pid)) = hub {
        hubs.retain(|found| found.pid == *pid);
    }
    hubs.truncate(MOST);
    hubs::ask_all(hubs).await
}

/// Why there is nothing to show, and what to do.
fn nobody(hub: Option<&Which>, answers: &Answers, seen: &Seen) -> String {
    if let Some(fault) = answers.iter().find_map(|(found, answer)| fault(found, answer)) {
        return fault;
    }
    let elsewhere = match (seen.taken.first(), seen.closed.is_empty()) {
        (Some(taken), _) => format!(
            "; {} is somebody else's, so that hubs of yours cannot be seen: have root take it away",
            shown(taken)
        ),
        (None, true) => String::new(),
        (None, false) => {
            "; there may be others, of other users or of the service: sudo pcaphub top".to_owned()
        }
    };
    match hub {
        Some(Which::Socket(path)) => format!("{}: no hub listens there", shown(Path::new(path))),
        Some(Which::Pid(pid)) => {
            format!("no hub of yours is process {pid}; `pcaphub top` shows which there are{elsewhere}")
        }
        None => format!("no hub of yours is running; `pcaphub demo` starts one to try{elsewhere}"),
    }
}

/// What is wrong with a hub that is there and cannot be shown.
fn fault(found: &Found, answer: &Answer) -> Option<String> {
    let socket = shown(&found.socket);
    match answer {
        Answer::Silent => Some(silent(found)),
        Answer::Denied => Some(format!("{socket} is another user's: try sudo pcaphub top")),
        Answer::Foreign => Some(format!("{socket}: what answers there is no hub")),
        Answer::TooMuch => Some(format!(
            "{socket}: it has more to tell than is read of another user: look at it as user {}",
            found.owner
        )),
        Answer::Status(_) | Answer::Gone => None,
    }
}

/// Says what is not among what is printed, and why.
fn tell_of_others(answers: &Answers, all: bool) {
    for (found, answer) in answers {
        if let Some(fault) = fault(found, answer) {
            eprintln!("pcaphub: {fault}");
        }
    }
    let more = if all { status::find().more } else { 0 };
    if more > 0 {
        eprintln!(
            "pcaphub: {more} more of other users are not shown: `pcaphub top` as each of them shows its own"
        );
    }
}

fn silent(found: &Found) -> String {
    format!("{} does not answer: the hub is stopped, or very busy", shown(&found.socket))
}

fn shown(path: &Path) -> String {
    escaped(&path.to_string_lossy(), 300)
}

/// All that was told, as it was told.
fn json(answers: Answers) -> serde_json::Result<String> {
    let told = |(_, answer)| if let Answer::Status(status) = answer { Some(status) } else { None };
    let told: Vec<Box<Status>> = answers.into_iter().filter_map(told).collect();
    Ok(escaped_json(&serde_json::to_string_pretty(&told)?) + "\n")
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Who reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        done => done.map(|()| ExitCode::SUCCESS).map_err(|error| anyhow!("cannot print: {error}")),
    }
}

/// Takes the terminal, and gives it back however it ends.
async fn look(ask: &Ask, first: Answers) -> anyhow::Result<ExitCode> {
    let terminal = ratatui::try_init().map_err(|error| anyhow!("cannot use this terminal: {error}"));
    let done = match terminal {
        Ok(terminal) => show(ask, first, terminal).await,
        Err(error) => Err(error),
    };
    ratatui::restore();
    done
}

async fn show(ask: &Ask, first: Answers, mut terminal: DefaultTerminal) -> anyhow::Result<ExitCode> {
    let mut ending = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .into_iter()
        .map(signal)
        .collect::<io::Result<Vec<_>>>()?;
    let mut keys = keys()?;
    let mut view = View::default();
    view.take(first);
    let mut asking: Option<JoinHandle<Answers>> = None;
    let mut turns = tokio::time::interval(ask.interval);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    turns.tick().await;
    loop {
        let mut page = 0;
        terminal
            .draw(|frame| page = screen::draw(frame, &mut view))
            .map_err(|error| anyhow!("the terminal is gone: {error}"))?;
        tokio::select! {
            key = keys.recv() => match key {
                Some(Ok(Event::Key(key))) => match view.press(key, page) {
                    Wish::Quit => return Ok(ExitCode::SUCCESS),
                    Wish::Suspend => terminal = suspended()?,
                    Wish::Show => {}
                },
                // A new size, which the next drawing heeds.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(anyhow!("the terminal is gone: {error}")),
                None => return Ok(ExitCode::SUCCESS),
            },
            // A hub that does not answer must not hold up the keys.
            _ = turns.tick(), if asking.is_none() && !view.paused => {
                let hub = ask.hub.clone();
                asking = Some(tokio::spawn(async move { asked(hub.as_ref()).await }));
            }
            answers = done(&mut asking) => {
                asking = None;
                view.take(answers);
            }
            () = any(&mut ending) => return Ok(ExitCode::from(exit::FAILED)),
        }
    }
}

/// Returns with what all hubs said, once they were asked.
async fn done(asking: &mut Option<JoinHandle<Answers>>) -> Answers {
    match asking {
        Some(task) => task.await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}

/// Keys as they come, read on a thread of their own.
fn keys() -> io::Result<mpsc::Receiver<io::Result<Event>>> {
    let (sender, keys) = mpsc::channel(16);
    let read = move || {
        loop {
            let event = event::read();
            let failed = event.is_err();
            if sender.blocking_send(event).is_err() || failed {
                return;
            }
        }
    };
    std::thread::Builder::new().name("keys".into()).spawn(read)?;
    Ok(keys)
}

/// Gives the terminal back, stops as Ctrl-Z does, with all that stand on the terminal together with it, and
/// takes it again afterwards.
fn suspended() -> anyhow::Result<DefaultTerminal> {
    ratatui::restore();
    kill_current_process_group(Signal::TSTP).map_err(io::Error::from)?;
    ratatui::try_init().map_err(|error| anyhow!("cannot use this terminal: {error}"))
}

async fn any(signals: &mut [tokio::signal::unix::Signal]) {
    std::future::poll_fn(|cx| match signals.iter_mut().any(|signal| signal.poll_recv(cx).is_ready()) {
        true => std::task::Poll::Ready(()),
        false => std::task::Poll::Pending,
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_neither_busy_nor_endless() {
        assert_eq!(interval("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["0s", "99ms", "2h", "soon"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_hub_is_meant_by_its_number_or_its_socket() {
        assert_eq!(which("04711"), Ok(Which::Pid(4711)));
        for path in ["4711.sock", "/run/x/1.sock", "./4711"] {
            assert_eq!(which(path), Ok(Which::Socket(path.into())));
        }
        assert!(which("").is_err());
    }

    #[test]
    fn who_finds_nothing_is_told_what_to_do() {
        let seen = Seen::default();
        let told = nobody(Some(&Which::Pid(4711)), &Vec::new(), &seen);
        assert!(told.starts_with("no hub of yours is process 4711; `pcaphub top` shows"), "{told}");
        assert!(nobody(None, &Vec::new(), &seen).ends_with("`pcaphub demo` starts one to try"));
        let closed = Seen { closed: vec!["/run/pcaphub".into()], ..Seen::default() };
        assert!(nobody(None, &Vec::new(), &closed).ends_with("or of the service: sudo pcaphub top"));
        let taken = Seen { taken: vec!["/tmp/pcaphub-7".into()], ..Seen::default() };
        assert!(nobody(None, &Vec::new(), &taken).contains("/tmp/pcaphub-7 is somebody else's"));
        let of = |answer| {
            vec![(Found { socket: "/run/x/1.sock".into(), owner: 0, pid: 1, by_root: true }, answer)]
        };
        let told = nobody(None, &of(Answer::Silent), &seen);
        assert_eq!(told, "/run/x/1.sock does not answer: the hub is stopped, or very busy");
        assert!(nobody(None, &of(Answer::Denied), &seen).ends_with("try sudo pcaphub top"));
        assert!(nobody(None, &of(Answer::Foreign), &seen).ends_with("what answers there is no hub"));
    }
}
