//! The same as text, once.

use pcaphub::escape::escaped;
use ratatui::text::Span;
use rustix::process::geteuid;

use crate::status::{Found, Status};

use super::figures::{count, rate, scaled, time};
use super::hubs::{Answer, Answers};
use super::looks::Looks;
use super::rows::{Rate, Row, Sort};
use super::silent;

/// Tables of every hub, from two looks at each. One that ended in between is shown as it was before.
pub(super) fn text(first: &Answers, second: &Answers) -> String {
    let known = |hub: &Found| first.iter().any(|(found, _)| found == hub);
    let new = second.iter().map(|(hub, _)| hub).filter(|hub| !known(hub));
    let mut tables = Vec::new();
    for hub in first.iter().map(|(hub, _)| hub).chain(new) {
        let (before, now) = (status_of(first, hub), status_of(second, hub));
        let is_silent = second.iter().any(|(found, answer)| found == hub && matches!(answer, Answer::Silent));
        match (now, before) {
            (Some(now), before) => tables.push(table(now, before, hub, "")),
            (None, Some(last)) if is_silent => tables.push(table(last, None, hub, ", does not answer")),
            (None, Some(last)) => tables.push(table(last, None, hub, ", has ended")),
            (None, None) if is_silent => tables.push(silent(hub) + "\n"),
            (None, None) => {}
        }
    }
    tables.join("\n")
}

fn status_of<'a>(answers: &'a Answers, hub: &Found) -> Option<&'a Status> {
    let (_, answer) = answers.iter().find(|(found, _)| found == hub)?;
    if let Answer::Status(status) = answer { Some(status) } else { None }
}

fn table(now: &Status, before: Option<&Status>, hub: &Found, fault: &str) -> String {
    let looks = Looks::new(now, before);
    let totals = looks.totals();
    let mut text = format!("pcaphub {}, process {}", escaped(&now.verb, 10), now.pid);
    if hub.owner != geteuid().as_raw() {
        text += &format!(", of user {}", hub.owner);
    }
    text += &format!(", {}{fault}", time(now.uptime));
    let file = now.config.as_deref().map(|file| escaped(file, 300));
    text += &file.map(|file| format!(", {file}")).unwrap_or_default();
    text += &format!("\nin   {}, {} in all\n", speed(totals.taken), count(totals.decoded));
    text += &format!("out  {}, {} in all\n", speed(totals.given), count(totals.delivered));
    let lost = if totals.lost.is_empty() { "0".into() } else { totals.lost.join(", ") };
    text += &format!("lost {lost}\n\n");
    let (sources, sinks) = (looks.sources(), looks.sinks(Sort::Age));
    let cells: Vec<[String; 7]> = std::iter::once(header("SOURCES", "held"))
        .chain(sources.iter().map(cells))
        .chain([Default::default(), header("SINKS AND CLIENTS", "queued")])
        .chain(sinks.iter().map(cells))
        .collect();
    let width = |column: usize| {
        cells.iter().filter_map(|row| row.get(column)).map(|cell| Span::from(cell).width()).max().unwrap_or(0)
    };
    for row in &cells {
        let aligned = row.iter().enumerate().map(|(column, cell)| match column {
            0 => cell.clone() + &" ".repeat(width(0).saturating_sub(Span::from(cell).width())),
            6 => format!("  {cell}"),
            _ => format!("  {cell:>0$}", width(column)),
        });
        text += aligned.collect::<String>().trim_end();
        text.push('\n');
    }
    text
}

fn speed(rate: Option<Rate>) -> String {
    let Some(its) = rate else { return "– packets/s".into() };
    format!("{} packets/s, {}bit/s", self::rate(its.packets), with_space(&scaled(its.bits)))
}

/// "8.21 M" goes before its unit as it is, "812" needs a space.
fn with_space(figure: &str) -> String {
    if figure.contains(' ') { figure.to_owned() } else { format!("{figure} ") }
}

fn header(what: &str, waiting: &str) -> [String; 7] {
    [what, "packets", "/s", "bit/s", waiting, "lost", ""].map(str::to_owned)
}

fn cells(row: &Row) -> [String; 7] {
    let [packets, rate, bits, waiting, lost] = row.figures();
    [row.shown_name(), packets, rate, bits, waiting, lost, row.note.clone()]
}

#[cfg(test)]
mod tests {
    use super::super::looks::tests::status;
    use super::*;

    fn hub(owner: u32) -> Found {
        Found { socket: "/run/x/4711.sock".into(), owner, pid: 4711, by_root: false }
    }

    #[test]
    fn a_hub_that_ended_meanwhile_or_says_nothing_is_told() {
        let seen = || vec![(hub(1), Answer::Status(Box::new(status(12.0, 5_000))))];
        let ended = text(&seen(), &Vec::new());
        assert!(ended.starts_with("pcaphub serve, process 4711, of user 1, 12 s, has ended\nin   – pack"));
        let silent = || vec![(hub(1), Answer::Silent)];
        let stopped = text(&seen(), &silent());
        assert!(stopped.starts_with("pcaphub serve, process 4711, of user 1, 12 s, does not answer\n"));
        let never = text(&silent(), &silent());
        assert_eq!(never, "/run/x/4711.sock does not answer: the hub is stopped, or very busy\n");
    }

    #[test]
    fn a_table_has_a_line_for_each_source_sink_and_client() {
        let (before, now) = (status(10.0, 1_000), status(12.0, 5_000));
        let expected = "\
pcaphub serve, process 4711, 12 s
in   2,000 packets/s, 1.60 Mbit/s, 5,000 in all
out  3,000 packets/s, 2.78 Mbit/s, 7,500 in all
lost 1,200 lag

SOURCES                  packets     /s   bit/s    held   lost
eth0                       5,000  2,000  1.60 M       0      0  open
office                         0      0       0       0      0  away: reset\\u{1b}[2J

SINKS AND CLIENTS        packets     /s   bit/s  queued   lost
tls-listen://0.0.0.0:0     7,500  3,000  2.78 M      40  1,200  2 clients at 0.0.0.0:57012
  10.0.0.3:4000 (bob)      2,500  1,000   928 k      40  1,200  1,200 lag
  10.0.0.2:4000 (alice)    5,000  2,000  1.86 M       0      0
tcp://10.0.0.9:57012           0      0       0       0      0  away: cannot connect: refused
";
        assert_eq!(table(&now, Some(&before), &hub(geteuid().as_raw()), ""), expected);
        let others = table(&now, None, &hub(4_000_000_000), "");
        assert!(others.contains("in   – packets/s, 5,000 in all"), "{others}");
        assert!(others.starts_with("pcaphub serve, process 4711, of user 4000000000, 12 s\n"), "{others}");
    }
}
