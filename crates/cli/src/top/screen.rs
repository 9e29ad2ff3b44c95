//! Draws a view: totals of the hub above, then a row for each source, sink and client.

use pcaphub::escape::escaped;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Padding, Paragraph, Sparkline};
use rustix::process::geteuid;

use super::figures::{count, rate, scaled, time};
use super::looks::Totals;
use super::rows::{Mood, Rate, Row};
use super::view::{State, View, Watched};

/// Rows above which there is room for a curve.
const TALL: u16 = 20;
/// Rows of the curve.
const CURVE: u16 = 3;
/// Columns from which on bits per second have one.
const WIDE: usize = 72;
/// Columns of the shortest column of names: its header's.
const SHORTEST: usize = 17;

const HELP: &str = "\
↑ ↓  j k       a row up, down
PgUp PgDn      a page up, down
Home End       to the first, the last row
← →  Tab       the hub before, the next one
s              sort clients: age, rate, queued, lost
p  space       pause, go on
q  Esc         quit

held, queued   packets on their way
lost           packets, by reason
open           that many streams are read
waiting        until a client comes, or a sink lets go
away           gone, and tried again
ending         delivers what is queued, and goes";

/// Draws it, and says how many rows of the tables are shown.
pub(super) fn draw(frame: &mut Frame<'_>, view: &mut View) -> usize {
    let area = frame.area();
    let curve = if area.height >= TALL { CURVE } else { 0 };
    let parts = [Constraint::Length(4), Constraint::Length(curve), Constraint::Min(0), Constraint::Length(1)];
    let [above, middle, tables, below] = Layout::vertical(parts).areas(area);
    let mut page = 0;
    if let Some(hub) = view.hub() {
        let totals = hub.looks().totals();
        frame.render_widget(Paragraph::new(title(hub, view.place(), above.width, &totals)), above);
        draw_curve(frame, hub, middle);
        let lines = lines(hub, view, tables.width);
        page = usize::from(tables.height);
        view.scroll = view.scroll.min(lines.len().saturating_sub(page));
        let shown: Vec<Line<'_>> = lines.into_iter().skip(view.scroll).take(page).collect();
        frame.render_widget(Paragraph::new(shown), tables);
    } else {
        frame.render_widget(Paragraph::new("No hub of yours is running. Looking for one …"), above);
    }
    frame.render_widget(Paragraph::new(hints(view)), below);
    if view.help {
        draw_help(frame, area);
    }
    page
}

fn title(hub: &Watched, (place, of): (usize, usize), width: u16, totals: &Totals) -> Vec<Line<'static>> {
    let status = hub.status();
    let mut first = vec![Span::from(format!("pcaphub {}", escaped(&status.verb, 10))).bold()];
    // Before all that it says of itself: root looks at the hubs of others, too.
    if hub.found.owner != geteuid().as_raw() {
        first.push(Span::from(format!("  of user {}", hub.found.owner)).bold().fg(Color::Yellow));
    }
    first.push(Span::from(format!("  process {}, {}", status.pid, time(status.uptime))));
    let which = if of > 1 { format!("hub {place} of {of}") } else { String::new() };
    let taken = first.iter().map(Span::width).sum::<usize>() + which.len() + 2;
    let left = usize::from(width).saturating_sub(taken);
    let file = status.config.as_deref().map(|file| format!("  {}", escaped(file, 300))).unwrap_or_default();
    first.extend([Span::from(fitted(&file, left)), Span::from("  "), Span::from(which).bold()]);
    let report = &status.report;
    let noun = if report.joined == 1 { "subscriber" } else { "subscribers" };
    let mut subscribers = format!("to {} {noun}", count(report.joined));
    if report.clients != report.joined {
        subscribers += &format!(", {} here", count(report.clients));
    }
    let lost = match totals.lost.as_slice() {
        [] => Line::from("lost  0"),
        lost => {
            let text = format!("lost  {}", lost.join(", "));
            Line::from(fitted(&text, usize::from(width))).fg(Color::Red).bold()
        }
    };
    let held = if totals.held > 0 { format!(", {} held", count(totals.held)) } else { String::new() };
    let queued = if totals.queued > 0 { format!(", {} queued", count(totals.queued)) } else { String::new() };
    vec![
        Line::from(first),
        Line::from(format!("in    {}  {} packets{held}", speed(totals.taken), count(totals.decoded))),
        Line::from(fitted(
            &format!(
                "out   {}  {} packets{queued}, {subscribers}",
                speed(totals.given),
                count(totals.delivered)
            ),
            usize::from(width),
        )),
        lost,
    ]
}

fn speed(rate: Option<Rate>) -> String {
    let (packets, bits) = match rate {
        Some(its) => (self::rate(its.packets), scaled(its.bits)),
        None => ("–".into(), "–".into()),
    };
    // "812 bit/s", "8.21 Mbit/s"
    let unit = if bits.contains(' ') { "bit/s" } else { " bit/s" };
    format!("{packets:>8} packets/s  {:>11}", bits + unit)
}

fn draw_curve(frame: &mut Frame<'_>, hub: &Watched, area: Rect) {
    let width = usize::from(area.width);
    let mut rates: Vec<u64> = hub.curve.iter().take(width).copied().collect();
    // The newest is on the right.
    rates.resize(width, 0);
    rates.reverse();
    let most = rates.iter().max().copied().unwrap_or(0).max(1);
    frame.render_widget(Sparkline::default().data(rates).max(most).fg(Color::Cyan), area);
}

/// Both tables, line by line.
fn lines(hub: &Watched, view: &View, width: u16) -> Vec<Line<'static>> {
    let looks = hub.looks();
    let (sources, sinks) = (looks.sources(), looks.sinks(view.sort));
    let names = sources.iter().chain(&sinks).map(|row| Line::from(row.shown_name()).width());
    let columns = Columns::new(usize::from(width), names.max().unwrap_or(0));
    let mut lines = vec![columns.header("SOURCES", "held")];
    lines.extend(sources.iter().flat_map(|row| columns.row(row)));
    lines.extend([Line::default(), columns.header("SINKS AND CLIENTS", "queued")]);
    lines.extend(sinks.iter().flat_map(|row| columns.row(row)));
    lines
}

/// How wide the columns are: the name; packets, packets per second, bits per second, on their way, lost; and
/// what is left for what there is to say.
struct Columns {
    width: usize,
    name: usize,
    figures: [usize; 5],
    note: usize,
}

impl Columns {
    /// For a screen of `width` columns, and names that are `longest` columns wide at most.
    fn new(width: usize, longest: usize) -> Self {
        let bits = if width >= WIDE { 6 } else { 0 };
        let figures = [11, 7, bits, 7, 7];
        // Each with a space before it.
        let taken: usize = figures.iter().filter(|width| **width > 0).map(|width| width + 1).sum();
        let name = longest.clamp(SHORTEST, width.saturating_sub(taken).max(SHORTEST));
        Columns { width, name, figures, note: width.saturating_sub(name + taken + 1) }
    }

    fn cells(&self, name: &str, figures: [String; 5]) -> String {
        let mut text = fitted(name, self.name);
        for (figure, width) in figures.iter().zip(self.figures).filter(|(_, width)| *width > 0) {
            text += &format!(" {figure:>width$}");
        }
        text
    }

    fn header(&self, what: &str, waiting: &str) -> Line<'static> {
        let figures = ["packets", "/s", "bit/s", waiting, "lost"].map(str::to_owned);
        let text = self.cells(what, figures) + &" ".repeat(self.note + 1);
        Line::from(text).style(Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED))
    }

    /// A name, and what there is to say, have a line of their own where they do not fit.
    fn row(&self, row: &Row) -> Vec<Line<'static>> {
        let name = row.shown_name();
        let color = if row.lost > 0 { Color::Red } else { Color::Reset };
        let mut lines = Vec::new();
        let mut begun = name.as_str();
        if Span::from(begun).width() > self.name {
            lines.push(Line::from(shortened(begun, self.width)).fg(color));
            begun = "";
        }
        let cells = Span::from(self.cells(begun, row.figures())).fg(color);
        let note = Span::from(row.note.clone()).fg(match row.mood {
            Mood::Fine => Color::Reset,
            Mood::Odd => Color::Yellow,
            Mood::Bad => Color::Red,
        });
        if note.width() <= self.note {
            lines.push(Line::from(vec![cells, Span::from(" "), note]));
        } else {
            lines.extend([Line::from(cells), Line::from(vec![Span::from("    "), note])]);
        }
        lines
    }
}

/// Text of at most that many columns. Of a longer one that ends with a name in a certificate, that stays.
fn shortened(text: &str, width: usize) -> String {
    if Span::from(text).width() <= width {
        return text.to_owned();
    }
    let (address, name) = match text.rfind(" (").filter(|_| text.ends_with(')')) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let left = width.saturating_sub(Span::from(name).width());
    if left < SHORTEST { fitted(text, width) } else { fitted(address, left).trim_end().to_owned() + name }
}

/// Text of exactly that many columns, cut where it is longer.
fn fitted(text: &str, width: usize) -> String {
    let mut shown = String::new();
    let taken = Span::from(text).width();
    if width == 0 {
        return shown;
    }
    if taken <= width {
        return format!("{text}{}", " ".repeat(width - taken));
    }
    for character in text.chars() {
        shown.push(character);
        if Span::from(shown.as_str()).width() >= width {
            shown.pop();
            break;
        }
    }
    let gap = width.saturating_sub(Span::from(shown.as_str()).width() + 1);
    format!("{shown}…{}", " ".repeat(gap))
}

fn hints(view: &View) -> Line<'static> {
    let other = if view.place().1 > 1 { "  ←→ other hub" } else { "" };
    let told = |text: String| Line::from(Span::from(text + "  q quit" + other).bold().fg(Color::Yellow));
    match view.hub().map(|hub| hub.state) {
        Some(State::Ended) => return told("It has ended; these are its last figures.".into()),
        Some(State::Silent(since)) => {
            let silence = time(since.elapsed().as_secs_f64());
            return told(format!("It has not answered for {silence}; these are its last figures."));
        }
        _ => {}
    }
    if view.paused {
        return told("Paused; p goes on.".into());
    }
    Line::from(format!("q quit  ? help  p pause  s sort: {}  ↑↓ scroll{other}", view.sort.name()))
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let (width, height) = (58.min(area.width), (HELP.lines().count() as u16 + 2).min(area.height));
    let area =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(" Keys and words ").padding(Padding::horizontal(1));
    frame.render_widget(Paragraph::new(HELP).block(block), area);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::hubs::Answer;
    use super::super::looks::tests::status;
    use super::super::view::tests::view;
    use super::*;
    use crate::status::Found;

    /// The lines of a screen of this size.
    fn drawn(view: &mut View, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| _ = draw(frame, view)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(line).collect()
    }

    #[test]
    fn a_usual_terminal_shows_all_of_a_hub() {
        let lines = drawn(&mut view(), 100, 16);
        let expected = [
            "pcaphub serve  process 4711, 12 s                                                         hub 1 of 2",
            "in       2,000 packets/s  1.60 Mbit/s  5,000 packets",
            "out      3,000 packets/s  2.78 Mbit/s  7,500 packets, 40 queued, to 3 subscribers",
            "lost  1,200 lag",
            "SOURCES                     packets      /s  bit/s    held    lost",
            "eth0                          5,000   2,000 1.60 M       0       0 open",
            "office                            0       0      0       0       0 away: reset\\u{1b}[2J",
            "",
            "SINKS AND CLIENTS           packets      /s  bit/s  queued    lost",
            "tls-listen://0.0.0.0:0        7,500   3,000 2.78 M      40   1,200 2 clients at 0.0.0.0:57012",
            "  10.0.0.3:4000 (bob)         2,500   1,000  928 k      40   1,200 1,200 lag",
            "  10.0.0.2:4000 (alice)       5,000   2,000 1.86 M       0       0",
            "tcp://10.0.0.9:57012              0       0      0       0       0 away: cannot connect: refused",
            "",
            "",
            "q quit  ? help  p pause  s sort: age  ↑↓ scroll  ←→ other hub",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_narrow_one_shows_names_whole_and_reasons_below_them() {
        let lines = drawn(&mut view(), 64, 16);
        let expected = [
            "SINKS AND CLIENTS           packets      /s  queued    lost",
            "tls-listen://0.0.0.0:0        7,500   3,000      40   1,200",
            "    2 clients at 0.0.0.0:57012",
            "  10.0.0.3:4000 (bob)         2,500   1,000      40   1,200",
            "    1,200 lag",
            "  10.0.0.2:4000 (alice)       5,000   2,000       0       0",
            "q quit  ? help  p pause  s sort: age  ↑↓ scroll  ←→ other hub",
        ];
        assert_eq!(lines[9..], expected);
    }

    #[test]
    fn an_address_that_is_too_long_has_a_line_of_its_own_with_the_name_behind_it() {
        let mut view = view();
        let mut now = status(14.0, 6_000);
        let client = "[2001:db8:1111:2222:3333:4444:5555:6666]:50123 (alice)";
        now.report.subscribers[1].name = client.into();
        let found = view.hub().unwrap().found.clone();
        view.take(vec![(found, Answer::Status(Box::new(now)))]);
        let lines = drawn(&mut view, 80, 24);
        let at = lines.iter().position(|line| line.trim_start() == client).unwrap();
        assert!(lines[at + 1].trim_start().starts_with("6,000"), "{lines:#?}");
        let narrow = drawn(&mut view, 40, 40);
        assert!(narrow.iter().any(|line| line == "  [2001:db8:1111:2222:3333:4444… (alice)"), "{narrow:#?}");
    }

    #[test]
    fn whose_hub_it_is_comes_before_what_it_says_of_itself() {
        let mut view = View::default();
        let mut now = status(14.0, 6_000);
        now.verb = "run  process 1, 3 h 12 min".into();
        now.config = Some("/etc/pcaphub/pcaphub.toml".repeat(9));
        let found = Found { socket: "/tmp/x/7.sock".into(), owner: 4_000_000_000, pid: 7, by_root: false };
        view.take(vec![(found, Answer::Status(Box::new(now)))]);
        let first = drawn(&mut view, 80, 24).remove(0);
        assert!(
            first.starts_with("pcaphub run  proce…  of user 4000000000  process 4711, 14 s  /etc"),
            "{first}"
        );
    }

    #[test]
    fn one_can_go_down_to_the_last_row_and_no_further() {
        let mut view = view();
        view.scroll = usize::MAX;
        let lines = drawn(&mut view, 100, 10);
        assert_eq!(view.scroll, 4);
        assert!(lines[8].starts_with("tcp://10.0.0.9:57012"), "{lines:#?}");
    }

    #[test]
    fn there_is_a_curve_where_there_is_room() {
        let mut view = view();
        let lines = drawn(&mut view, 40, 20);
        assert!(lines[4].ends_with('█') && lines[6].ends_with('█'), "{lines:#?}");
        assert!(drawn(&mut view, 40, 19)[4].starts_with("SOURCES"));
    }

    #[test]
    fn help_and_what_is_wrong_with_the_hub_are_told() {
        let mut view = view();
        view.help = true;
        let text = drawn(&mut view, 80, 24).join("\n");
        assert!(text.contains("│ ↑ ↓  j k       a row up, down") && text.contains("gone, and tried again"));
        view.help = false;
        view.paused = true;
        assert!(drawn(&mut view, 80, 24)[23].starts_with("Paused"));
        view.take(Vec::new());
        assert!(drawn(&mut view, 80, 24)[23].starts_with("It has ended"));
    }

    #[test]
    fn no_screen_is_too_small() {
        for (width, height) in [(1, 1), (3, 2), (20, 5), (10, 40), (500, 1)] {
            let mut view = view();
            view.help = true;
            assert_eq!(drawn(&mut view, width, height).len(), usize::from(height));
        }
        assert_eq!(drawn(&mut View::default(), 30, 3)[0], "No hub of yours is running. Lo");
    }

    #[test]
    fn names_are_cut_by_the_columns_that_they_take() {
        assert_eq!(fitted("abc", 5), "abc  ");
        assert_eq!(fitted("abcdef", 4), "abc…");
        assert_eq!(fitted("日本語", 4), "日… ");
        assert_eq!(fitted("日本語", 6), "日本語");
    }
}
