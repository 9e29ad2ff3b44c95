//! What is looked at, and what keys change of that: which hub, in which order, how far down.

use std::collections::VecDeque;
use std::time::Instant;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::status::{Found, Status};

use super::hubs::{Answer, Answers};
use super::looks::Looks;
use super::rows::Sort;

/// Rates that are kept for the curve: more than a screen is wide.
const CURVE: usize = 1_000;

/// A hub that was seen.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) found: Found,
    now: Box<Status>,
    before: Option<Box<Status>>,
    /// Packets per second taken in, the oldest first.
    pub(super) curve: VecDeque<u64>,
    pub(super) state: State,
}

/// Whether it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Runs,
    /// It has not answered since then.
    Silent(Instant),
    Ended,
}

impl Watched {
    fn new(found: Found, now: Box<Status>) -> Self {
        let (before, curve, state) = (None, VecDeque::new(), State::Runs);
        Watched { found, now, before, curve, state }
    }

    /// One that has not said anything yet.
    fn unheard(found: Found) -> Self {
        let now = Box::new(Status { pid: found.pid, ..Status::default() });
        Watched { state: State::Silent(Instant::now()), ..Watched::new(found, now) }
    }

    /// The last two looks at it.
    pub(super) fn looks(&self) -> Looks<'_> {
        Looks::new(&self.now, self.before.as_deref())
    }

    /// The last look at it.
    pub(super) fn status(&self) -> &Status {
        &self.now
    }

    fn saw(&mut self, status: Box<Status>) {
        self.state = State::Runs;
        let before = std::mem::replace(&mut self.now, status);
        self.before = (!before.version.is_empty()).then_some(before);
        if let Some(taken) = self.looks().totals().taken {
            self.curve.truncate(CURVE - 1);
            self.curve.push_front(taken.packets.round() as u64);
        } else {
            self.curve.clear();
        }
    }
}

/// What a key asks for that is not the view's own business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// To see what has changed.
    Show,
    /// To stop looking.
    Quit,
    /// To be stopped, as by the shell.
    Suspend,
}

/// What the screen shows.
#[derive(Debug, Default)]
pub(super) struct View {
    hubs: Vec<Watched>,
    selected: usize,
    pub(super) sort: Sort,
    /// Rows that are above the first one shown. The screen bounds it.
    pub(super) scroll: usize,
    pub(super) paused: bool,
    pub(super) help: bool,
}

impl View {
    /// Takes in what came of asking all the hubs that were found.
    pub(super) fn take(&mut self, answers: Answers) {
        for hub in &mut self.hubs {
            if !answers.iter().any(|(found, _)| *found == hub.found) {
                hub.state = State::Ended;
            }
        }
        for (found, answer) in answers {
            let known = self.hubs.iter_mut().find(|hub| hub.found == found);
            match (known, answer) {
                (Some(hub), Answer::Status(status)) => hub.saw(status),
                (Some(hub), Answer::Silent | Answer::TooMuch | Answer::Foreign)
                    if matches!(hub.state, State::Silent(_)) => {}
                (Some(hub), Answer::Silent | Answer::TooMuch | Answer::Foreign) => {
                    hub.state = State::Silent(Instant::now());
                }
                (Some(hub), Answer::Gone | Answer::Denied) => hub.state = State::Ended,
                (None, Answer::Status(status)) => self.hubs.push(Watched::new(found, status)),
                (None, Answer::Silent | Answer::TooMuch) => self.hubs.push(Watched::unheard(found)),
                (None, _) => {}
            }
        }
        self.forget();
    }

    /// Drops hubs that have ended, but for the one that is looked at.
    fn forget(&mut self) {
        let looked_at = self.hub().map(|hub| hub.found.clone());
        let is_shown = |hub: &Watched| Some(&hub.found) == looked_at.as_ref();
        self.hubs.retain(|hub| hub.state != State::Ended || is_shown(hub));
        self.selected = self.hubs.iter().position(is_shown).unwrap_or(0);
    }

    /// The hub that is looked at.
    pub(super) fn hub(&self) -> Option<&Watched> {
        self.hubs.get(self.selected)
    }

    /// Which one of how many that is, the first being 1.
    pub(super) fn place(&self) -> (usize, usize) {
        (self.selected + 1, self.hubs.len())
    }

    fn turn(&mut self, steps: usize) {
        if let Some(selected) = (self.selected + steps).checked_rem(self.hubs.len()) {
            self.selected = selected;
            self.scroll = 0;
            self.forget();
        }
    }

    /// Heeds a key. `page` is how many rows are shown.
    pub(super) fn press(&mut self, key: KeyEvent, page: usize) -> Wish {
        if key.kind == KeyEventKind::Release {
            return Wish::Show;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c' | 'd') => Wish::Quit,
                KeyCode::Char('z') => Wish::Suspend,
                _ => Wish::Show,
            };
        }
        if std::mem::take(&mut self.help) && key.code != KeyCode::Char('q') {
            return Wish::Show;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Wish::Quit,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.help = true,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Down | KeyCode::Char('j') => self.scroll = self.scroll.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::PageDown => self.scroll = self.scroll.saturating_add(page),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(page),
            KeyCode::Home | KeyCode::Char('g') => self.scroll = 0,
            KeyCode::End | KeyCode::Char('G') => self.scroll = usize::MAX,
            KeyCode::Right | KeyCode::Tab => self.turn(1),
            KeyCode::Left | KeyCode::BackTab => self.turn(self.hubs.len().saturating_sub(1)),
            _ => {}
        }
        Wish::Show
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::looks::tests::status;
    use super::*;

    fn at(socket: &str) -> Found {
        Found { socket: socket.into(), owner: rustix::process::geteuid().as_raw(), pid: 4711, by_root: false }
    }

    fn answer(socket: &str, uptime: f64, packets: u64) -> (Found, Answer) {
        (at(socket), Answer::Status(Box::new(status(uptime, packets))))
    }

    /// Two hubs, each seen twice.
    pub(crate) fn view() -> View {
        let mut view = View::default();
        view.take(vec![answer("/a", 10.0, 1_000), answer("/b", 10.0, 0)]);
        view.take(vec![answer("/a", 12.0, 5_000), answer("/b", 12.0, 0)]);
        view
    }

    fn press(view: &mut View, code: KeyCode) -> Wish {
        view.press(KeyEvent::new(code, KeyModifiers::NONE), 10)
    }

    fn shown(view: &View) -> Option<&str> {
        view.hub().and_then(|hub| hub.found.socket.to_str())
    }

    #[test]
    fn a_hub_has_a_curve_of_what_it_took_in() {
        let mut view = view();
        assert_eq!(view.hub().unwrap().curve, [2_000]);
        view.take(vec![answer("/a", 13.0, 5_100)]);
        assert_eq!(view.hub().unwrap().curve, [100, 2_000]);
        view.take(vec![answer("/a", 1.0, 5)]);
        assert_eq!(view.hub().unwrap().curve.len(), 0, "another process");
    }

    #[test]
    fn a_hub_that_ended_is_shown_until_one_turns_to_another() {
        let mut view = view();
        view.take(vec![answer("/b", 13.0, 0)]);
        assert_eq!((shown(&view), view.hub().unwrap().state), (Some("/a"), State::Ended));
        press(&mut view, KeyCode::Right);
        assert_eq!((shown(&view), view.place()), (Some("/b"), (1, 1)));
        view.take(vec![(at("/b"), Answer::Gone)]);
        assert_eq!((shown(&view), view.hub().unwrap().state), (Some("/b"), State::Ended));
    }

    #[test]
    fn a_hub_that_says_nothing_is_told_from_one_that_ended() {
        let mut view = view();
        view.take(vec![(at("/a"), Answer::Silent), (at("/c"), Answer::Silent)]);
        assert!(matches!(view.hub().unwrap().state, State::Silent(_)));
        view.take(vec![answer("/a", 14.0, 9_000), (at("/c"), Answer::Silent)]);
        assert_eq!(view.hub().unwrap().state, State::Runs);
        press(&mut view, KeyCode::Left);
        assert_eq!(shown(&view), Some("/c"), "one that never answered is there to be seen");
        view.take(vec![answer("/c", 1.0, 3)]);
        let hub = view.hub().unwrap();
        assert_eq!((hub.state, hub.looks().totals().taken), (State::Runs, None));
    }

    #[test]
    fn keys_turn_from_hub_to_hub_both_ways() {
        let mut view = view();
        press(&mut view, KeyCode::Left);
        assert_eq!((shown(&view), view.place()), (Some("/b"), (2, 2)));
        press(&mut view, KeyCode::Tab);
        assert_eq!(shown(&view), Some("/a"));
        let mut none = View::default();
        press(&mut none, KeyCode::Right);
        press(&mut none, KeyCode::Left);
        assert_eq!(shown(&none), None);
    }

    #[test]
    fn keys_quit_pause_sort_and_explain() {
        let mut view = view();
        for code in [KeyCode::Char('q'), KeyCode::Esc] {
            assert_eq!(press(&mut view, code), Wish::Quit);
        }
        let control =
            |view: &mut View, key| view.press(KeyEvent::new(KeyCode::Char(key), KeyModifiers::CONTROL), 10);
        assert_eq!(control(&mut view, 'c'), Wish::Quit);
        assert_eq!(control(&mut view, 'z'), Wish::Suspend);
        press(&mut view, KeyCode::Char('p'));
        press(&mut view, KeyCode::Char('s'));
        assert_eq!((view.paused, view.sort), (true, Sort::Rate));
        press(&mut view, KeyCode::Char('?'));
        assert!(view.help);
        assert_eq!(press(&mut view, KeyCode::Esc), Wish::Show, "any key leaves the help");
        assert!(!view.help);
    }
}
