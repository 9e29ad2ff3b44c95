//! The same as text, once.

use rustix::process::geteuid;

use crate::status::Status;

use super::figures::{count, rate, scaled, time};
use super::hubs::{Answer, Answers};
use super::rows::{Looks, Rate, Row, Sort};

/// Tables of every hub, from two looks at each.
pub(super) fn text(first: Answers, second: Answers) -> String {
    let mut tables = Vec::new();
    for (socket, owner, answer) in second {
        let Answer::Status(now) = answer else { continue };
        let before = first.iter().find(|(known, _, _)| *known == socket);
        let before =
            before.and_then(
                |(_, _, answer)| {
                    if let Answer::Status(status) = answer { Some(status.as_ref()) } else { None }
                },
            );
        tables.push(table(&now, before, owner));
    }
    tables.join("\n")
}

fn table(now: &Status, before: Option<&Status>, owner: u32) -> String {
    let looks = Looks::new(now, before);
    let totals = looks.totals();
    let verb = pcaphub::escape::escaped(&now.verb, 40);
    let mut text = format!("pcaphub {verb}, process {}, {}", now.pid, time(now.uptime));
    let file = now.config.as_deref().map(|file| pcaphub::escape::escaped(file, 300));
    text += &file.map(|file| format!(", {file}")).unwrap_or_default();
    if owner != geteuid().as_raw() {
        text += &format!(", of user {owner}");
    }
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
        cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    for row in &cells {
        let aligned = row.iter().enumerate().map(|(column, cell)| match column {
            0 => format!("{cell:<0$}", width(column)),
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
    use super::super::rows::tests::status;
    use super::*;

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
        assert_eq!(table(&now, Some(&before), geteuid().as_raw()), expected);
        let others = table(&now, None, 4_000_000_000);
        assert!(others.contains("in   – packets/s, 5,000 in all"), "{others}");
        assert!(others.starts_with("pcaphub serve, process 4711, 12 s, of user 4000000000\n"), "{others}");
    }
}
