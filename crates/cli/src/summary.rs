//! The counts, for people as tcpdump prints them at its end, and for machines as JSON.

use pcaphub::escape::{escaped, escaped_json};
use pcaphub::stats::Report;

use crate::logging;

/// Prints the counts to standard error.
pub(crate) fn print(report: &Report, json: bool) {
    if json {
        match serde_json::to_string(report) {
            Ok(line) => eprintln!("{}", escaped_json(&line)),
            Err(error) => eprintln!("pcaphub: statistics: {error}"),
        }
        return;
    }
    if logging::is_json() {
        return logging::tell_counts(serde_json::to_value(report).unwrap_or_default());
    }
    eprint!("{}", text(report));
}

fn text(report: &Report) -> String {
    let mut lines = Vec::new();
    for source in &report.sources {
        let name = escaped(&source.name, 80);
        let mut line = format!("{} packets from {name}", source.decoded);
        if source.filtered > 0 {
            line += &format!(", {} left out", source.filtered);
        }
        for (reason, n) in &source.dropped {
            line += &format!(", {n} dropped: {}", reason.replace('_', " "));
        }
        if source.held > 0 {
            line += &format!(", {} held", source.held);
        }
        for (kind, n) in &source.anomalies {
            line += &format!(", {n} {}", kind.replace('_', " "));
        }
        lines.push(line);
    }
    let queued: u64 = report.subscribers.iter().map(|subscriber| subscriber.queued).sum();
    let clients = report.joined;
    lines.push(format!(
        "{} packets delivered to {clients} {}",
        report.delivered(),
        plural(clients, "client")
    ));
    if queued > 0 {
        lines.push(format!("{queued} packets queued"));
    }
    let lost = lost(report);
    match lost.is_empty() {
        true => lines.push("0 packets dropped".into()),
        false => lines.extend(lost),
    }
    lines.join("\n") + "\n"
}

fn lost(report: &Report) -> Vec<String> {
    report
        .dropped()
        .iter()
        .map(|(reason, n)| format!("{n} packets dropped: {}", reason.replace('_', " ")))
        .collect()
}

fn plural(n: u64, noun: &str) -> String {
    if n == 1 { noun.to_owned() } else { format!("{noun}s") }
}

#[cfg(test)]
mod tests {
    use pcaphub_core::stats::DropReason;

    #[test]
    fn every_reason_for_a_loss_is_explained_in_the_documentation() {
        let page = include_str!("../../../docs/reliability.md");
        for reason in DropReason::ALL {
            assert!(page.contains(&format!("| `{reason}` |")), "{reason}");
        }
    }
}
