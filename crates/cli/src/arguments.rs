//! The command line into a task, which for the verbs that run a hub has a plan.

use std::process::ExitCode;

use clap::ArgMatches;
use pcaphub::config::{self, Config};
use pcaphub::limits::Limits;
use pcaphub::plan::{self, Plan, PlanError, Reconnect};

use crate::command::{NOT_BUILT, OPTIONS_NOT_BUILT, command, option};
use crate::logging::LogFormat;
use crate::task::{Arguments, Task, Verb};
use crate::words::endpoints;
use crate::{cert, check, completions, exit, interfaces, manual, print_config, run, top};

/// Reads the process's command line; what is wrong with it, or help that was asked for, is
/// printed.
pub(crate) fn parse() -> Result<Task, ExitCode> {
    let matches = command().try_get_matches().map_err(|error| {
        exit::print_usage(&error);
        ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 })
    })?;
    match matches.subcommand() {
        Some(("cert", matches)) => return Ok(Task::Cert(cert::ask(matches))),
        Some(("interfaces", matches)) => return Ok(Task::Interfaces(interfaces::form(matches))),
        Some(("top", matches)) => return Ok(Task::Top(top::ask(matches))),
        Some(("man", matches)) => return Ok(Task::Manual(manual::pages(matches))),
        Some(("completions", matches)) => {
            return completions::shell(matches).map(Task::Completions).ok_or(ExitCode::from(exit::USAGE));
        }
        Some(("check", matches)) => return Ok(Task::Check(check::files(matches))),
        _ => {}
    }
    let arguments = match matches.subcommand() {
        Some(("run", matches)) => run::arguments(matches).map_err(|error| exit::report(&error.into()))?,
        _ => arguments(&matches).map_err(|error| exit::report(&error.into()))?,
    };
    let prints = matches.subcommand().is_some_and(|(_, matches)| print_config::is_wanted(matches));
    Ok(if prints { Task::PrintConfig(Box::new(arguments)) } else { Task::Hub(Box::new(arguments)) })
}

fn arguments(matches: &ArgMatches) -> Result<Arguments, PlanError> {
    let Some((name, matches)) = matches.subcommand() else {
        return Err(PlanError::Refused("a verb is needed".into()));
    };
    if let Some((_, part, instead)) = NOT_BUILT.iter().find(|(verb, _, _)| *verb == name) {
        return Err(PlanError::NotBuilt { what: format!("pcaphub {name}"), part, instead });
    }
    let verb = match name {
        "serve" => Verb::Serve,
        "cat" => Verb::Cat,
        "demo" => Verb::Demo,
        "replay" => Verb::Replay,
        "record" => Verb::Record,
        _ => Verb::Pipe,
    };
    for (id, flag, part, instead) in OPTIONS_NOT_BUILT {
        if matches.contains_id(id) {
            return Err(PlanError::NotBuilt { what: (*flag).to_owned(), part, instead });
        }
    }
    let (sources, sinks) = endpoints(verb, matches)?;
    if sinks.is_empty() {
        let why = "where shall the packets go? Add --to SINK, e.g. --to tcp://192.168.1.3:57012 or --to capture.pcapng";
        return Err(PlanError::Refused(why.into()));
    }
    let plan = Plan {
        sources,
        sinks,
        order: option(matches, "order", plan::order)?,
        hold: option(matches, "hold", plan::duration)?.unwrap_or(Plan::default().hold),
        reconnect: if verb == Verb::Serve { Reconnect::Always } else { Reconnect::Error },
        count: matches.get_one("count").copied(),
        duration: option(matches, "duration", plan::span)?,
        limits: limits(matches)?,
    };
    // `cat` stands in pipelines, where news of who came and went is noise.
    let quiet = matches.get_count("quiet") as i8 + i8::from(verb == Verb::Cat);
    Ok(Arguments {
        verb,
        plan,
        verbosity: matches.get_count("verbose").min(8) as i8 - quiet,
        log_format: matches.get_one("log-format").copied().unwrap_or(LogFormat::Text),
        stats_json: matches.contains_id("stats"),
        config: None,
        user: matches.get_one("user").cloned(),
    })
}

/// The limits, read as the configuration file reads them.
fn limits(matches: &ArgMatches) -> Result<Limits, PlanError> {
    let mut said = Config::default();
    for limit in config::limits() {
        option(matches, limit.name, |text| (limit.set)(&mut said, text))?;
    }
    Ok(said.plan.limits)
}

/// What a line says, for tests.
#[cfg(test)]
pub(crate) fn of_words(line: &[&str]) -> Result<Arguments, String> {
    let words = std::iter::once("pcaphub").chain(line.iter().copied().filter(|word| !word.is_empty()));
    let matches = command().try_get_matches_from(words).map_err(|error| error.to_string())?;
    arguments(&matches).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use pcaphub_core::feed::{History, OnSlow};
    use pcaphub_core::pace::Pace;

    fn plan_of(line: &[&str]) -> Result<Plan, String> {
        of_words(line).map(|arguments| arguments.plan)
    }

    #[test]
    fn serve_listens_on_loopback_unless_told_otherwise() {
        let plan = plan_of(&["serve", "x.pcap"]).unwrap();
        assert_eq!(plan.sinks[0].endpoint.address, "127.0.0.1:57012");
        let plan = plan_of(&[
            "serve",
            "x.pcap",
            "--listen",
            "0.0.0.0:1",
            "--listen",
            ":2",
            "--allow",
            "any",
            "--history",
            "10s",
        ])
        .unwrap();
        assert_eq!(plan.sinks[0].endpoint.address, "0.0.0.0:1");
        assert_eq!(plan.sinks[1].endpoint.address, "127.0.0.1:2");
        assert_eq!(plan.sinks[1].history, History::Age(Duration::from_secs(10)));
        assert!(plan.sinks[0].allow.is_some());
    }

    #[test]
    fn the_options_of_pipe_are_for_every_sink_that_does_not_say_it_itself() {
        let line = [
            "pipe",
            "a.pcap",
            "--format",
            "pcapng",
            "--to",
            "null:",
            "--to",
            "tcp://b?format=pcap",
            "--dedup",
            "1s",
        ];
        let plan = plan_of(&line).unwrap();
        assert_eq!(plan.sinks[0].format.unwrap().to_string(), "pcapng");
        assert_eq!(plan.sinks[1].format.unwrap().to_string(), "pcap");
        assert!(plan.sinks.iter().all(|sink| sink.dedup == Some(Duration::from_secs(1))));
    }

    #[test]
    fn options_belong_to_the_endpoint_before_them() {
        let line = [
            "pipe",
            "a.pcap",
            "--opt",
            "name=a",
            "tcp://b",
            "--opt",
            "reconnect=no",
            "--to",
            "null:",
            "--opt",
            "on-slow=drop",
        ];
        let plan = plan_of(&line).unwrap();
        assert_eq!(&*plan.sources[0].name, "a");
        assert_eq!(plan.sources[1].reconnect, Some(Reconnect::No));
        assert_eq!(plan.sinks[0].on_slow, Some(OnSlow::Drop));
    }

    #[test]
    fn the_last_word_of_replay_is_the_interface_and_the_speed_the_original_one() {
        let plan = plan_of(&["replay", "a.pcap", "b.pcap", "eth1", "--opt", "oversize=segment"]).unwrap();
        assert_eq!(plan.sources.len(), 2);
        assert_eq!(plan.sinks[0].endpoint.to_string(), "if:eth1");
        assert_eq!(plan.sinks[0].pace, Some(Pace::Times(1.0)));
        assert_eq!(plan.sinks[0].injection.oversize, plan::Oversize::Segment);
        let plan = plan_of(&["replay", "a.pcap", "if:eth1?create=tap", "--pace", "max"]).unwrap();
        assert_eq!(plan.sinks[0].pace, Some(Pace::Max));
        assert!(plan.sinks[0].injection.create_tap);
        assert!(plan_of(&["replay", "a.pcap"]).unwrap_err().contains("pcaphub interfaces"));
        assert!(plan_of(&["replay", "a.pcap", "eth1", "--force"]).unwrap().sinks[0].injection.force);
        assert!(!plan.sinks[0].injection.force);
        let group = ["replay", "a.pcap", "eth1", "--mac-src", "01:00:5e:00:00:01"];
        assert!(plan_of(&group).unwrap_err().contains("group"));
    }

    #[test]
    fn numbers_below_what_makes_sense_are_told_what_is_meant() {
        for (option, value, said) in [
            ("--pace", "-1x", "it is max, a speed"),
            ("--duration", "-5s", "it is a time"),
            ("--duration", "0", "not 0"),
            ("--loop", "-1", "it is how often"),
            ("-B", "0", "KiB"),
        ] {
            let error = plan_of(&["serve", "-i", "eth0", "a.pcap", option, value]).unwrap_err();
            assert!(error.contains(said), "{option}: {error}");
        }
    }

    #[test]
    fn only_files_are_read_again() {
        for live in [&["-i", "eth0"][..], &["tcp://a"], &["-"]] {
            let refused = plan_of(&[&["serve"], live, &["--loop", "3"]].concat()).unwrap_err();
            assert!(refused.contains("--loop 3: none of the sources is a file"), "{refused}");
            let plan = plan_of(&[&["serve"], live, &["a.pcap", "--loop", "3", "--pace", "1x"]].concat());
            let repeats: Vec<u64> = plan.unwrap().sources.iter().map(|source| source.repeat).collect();
            assert_eq!(repeats.iter().max(), Some(&3));
            assert_eq!(repeats.iter().filter(|times| **times == 1).count(), 1);
        }
    }

    #[test]
    fn the_last_word_of_record_is_the_directory() {
        let recording = |line: &[&str]| {
            let plan = plan_of(line).unwrap();
            (plan.sources.len(), plan.sinks[0].recording.clone().unwrap())
        };
        let (sources, hourly) = recording(&["record", "a.pcap", "b.pcap", "captures"]);
        assert_eq!((sources, hourly.directory.to_str()), (2, Some("captures")));
        assert_eq!(hourly.rotation.every, Some(Duration::from_secs(3600)));
        assert_eq!(hourly.rotation.size, Some(1 << 30));
        assert_eq!(hourly.template.text(), "%Y-%m-%dT%H-%M-%SZ.pcapng");
        let (sources, ring) = recording(&["record", "ring/", "-i", "eth0", "--size", "1MB", "--keep", "3"]);
        assert_eq!((sources, ring.rotation.every, ring.keep.count), (1, None, Some(3)));
        let plan = plan_of(&["record", "-i", "eth0", "d", "--format", "pcap", "--to", "null:"]).unwrap();
        assert_eq!(plan.sinks.len(), 2);
        assert!(
            plan.sinks.iter().any(|sink| {
                sink.recording.as_ref().is_some_and(|r| r.template.text().ends_with("Z.pcap"))
            })
        );
        let error = |line: &[&str]| plan_of(line).unwrap_err();
        assert!(error(&["record", "captures"]).contains("a source and a directory"));
        assert!(error(&["record", "a", "tcp://b"]).contains("--to"));
        assert!(error(&["record", "a", "d", "--template", "a/b"]).contains("cannot be in a name"));
        assert!(error(&["record", "a", "d", "--size", "1GB", "--keep-total", "1MB"]).contains("no room"));
        assert!(error(&["pipe", "a", "--to", "x.pcap?", "--opt", "keep=3"]).contains("it is one file"));
    }

    #[test]
    fn record_understands_the_options_of_tcpdump() {
        let recording = |line: &[&str]| {
            let line = [&["record", "-i", "eth0", "-w", "/var/cap/x-%H%M.pcap"], line].concat();
            plan_of(&line).map(|plan| plan.sinks[0].recording.clone().unwrap())
        };
        let timed = recording(&["-G", "60", "-W", "10"]).unwrap();
        assert_eq!((timed.directory.to_str(), timed.template.text()), (Some("/var/cap"), "x-%H%M.pcap"));
        assert_eq!(timed.rotation.every, Some(Duration::from_secs(60)));
        assert_eq!((timed.files, timed.keep.count, timed.rotation.size), (Some(10), None, None));
        let sized = recording(&["-C", "100", "-W", "3"]).unwrap();
        assert_eq!((sized.rotation.size, sized.keep.count, sized.files), (Some(100_000_000), Some(3), None));
        let both = recording(&["-C", "2k", "-G", "60", "-W", "3"]).unwrap();
        assert_eq!((both.rotation.size, both.keep.count, both.files), (Some(2048), Some(3), None));
        assert_eq!(recording(&[]).unwrap().rotation.size, Some(1 << 30));
        assert!(recording(&["-W", "3"]).unwrap_err().contains("-W COUNT goes with -C"));
        assert!(recording(&["-C", "much"]).unwrap_err().contains("millions of octets"));
        assert!(recording(&["-z", "gzip"]).unwrap_err().contains("watch the directory"));
        let lone = plan_of(&["record", "-i", "eth0", "-C", "1", "-w", "x.pcap"]).unwrap();
        assert_eq!(lone.sinks[0].recording.as_ref().unwrap().directory.to_str(), Some("."));
    }

    #[test]
    fn the_service_that_makes_an_interface_is_one_that_starts() {
        let unit = include_str!("../../../packaging/systemd/pcaphub-replay.service");
        let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/pcaphub ")).unwrap();
        let plan = plan_of(&line.split(' ').collect::<Vec<_>>()).unwrap();
        assert_eq!(plan.sources[0].reconnect, Some(Reconnect::Always));
        assert!(plan.sinks[0].injection.create_tap);
    }

    #[test]
    fn each_listener_may_have_a_filter_of_its_own() {
        let line = ["serve", "x", "--listen", ":1", "--opt", "filter=port 80", "--listen", ":2?filter=udp"];
        let plan = plan_of(&line).unwrap();
        assert_eq!(plan.sinks[0].filter.as_deref(), Some("port 80"));
        assert_eq!(plan.sinks[1].filter.as_deref(), Some("udp"));
        assert_eq!(
            plan_of(&["serve", "x", "-f", "icmp"]).unwrap().sources[0].filter.as_deref(),
            Some("icmp")
        );
    }

    #[test]
    fn what_is_not_built_names_the_missing_part() {
        let error = |line: &[&str]| plan_of(line).unwrap_err();
        assert!(error(&["serve", "x", "--web"]).contains("dashboard"));
        assert!(error(&["serve", "nats://x"]).contains("message bus"));
        assert!(error(&["serve", "x", "--config", "y.toml"]).contains("pcaphub run FILE"));
    }

    #[test]
    fn mistakes_are_answered_with_what_to_write() {
        let error = |line: &[&str]| plan_of(line).unwrap_err();
        assert!(error(&["pipe", "x"]).contains("--to SINK"));
        assert!(error(&["serve", "null:"]).contains("only a sink"));
        assert!(error(&["serve", "tcp://x?colour=red"]).contains("known are"));
        assert!(error(&["serve", "x", "--opt", "reconnect=no"]).contains("unknown option"));
        assert!(error(&["serve", "x", "--hold", "soon"]).contains("--hold=soon"));
        assert!(error(&["serve", "x", "--max-memory", "1MiB"]).contains("at least 16MiB"));
    }
}
