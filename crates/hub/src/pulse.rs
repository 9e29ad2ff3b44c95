//! A sign of life: whether the hub's own loop goes around.
//!
//! Who watches over the hub asks, and the loop answers with its next pass, which it makes at once for it.
//! A timer would go on where the hub has come to a stop; this does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Asks for a pass of the loop, or answers for one. Clones belong to the same loop.
#[derive(Debug, Clone, Default)]
pub struct Pulse {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Whether somebody waits for an answer.
    asked: AtomicBool,
    question: Notify,
    answer: Notify,
}

impl Pulse {
    /// Returns once the loop has made a whole pass since this was called; never if it has come to a stop.
    /// One at a time may ask.
    pub async fn passed(&self) {
        let answer = self.shared.answer.notified();
        tokio::pin!(answer);
        // An answer to a question that was given up is none to this one.
        answer.as_mut().enable();
        self.shared.asked.store(true, Ordering::Release);
        self.shared.question.notify_one();
        answer.await;
    }

    /// For the loop: returns when a pass is wanted.
    pub async fn wanted(&self) {
        self.shared.question.notified().await;
    }

    /// For the loop: a pass is made. Costs a load where nobody asked.
    pub fn beat(&self) {
        if self.shared.asked.load(Ordering::Acquire) && self.shared.asked.swap(false, Ordering::AcqRel) {
            self.shared.answer.notify_waiters();
        }
    }

    /// For where the loop waits by the operator's choice, as for a stalled client under `wait`: answers each
    /// question, and never returns.
    pub async fn answer(&self) {
        loop {
            self.wanted().await;
            self.beat();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// Whether a future is ready, looked at once.
    fn is_ready(future: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn a_loop_gives_an_answer_only_by_a_pass() {
        let pulse = Pulse::default();
        let mut passed = pin!(pulse.passed());
        assert!(!is_ready(passed.as_mut()));
        assert!(is_ready(pin!(pulse.wanted())), "the loop is woken for it");
        assert!(!is_ready(passed.as_mut()), "it has not gone around yet");
        pulse.beat();
        assert!(is_ready(passed.as_mut()));
    }

    #[test]
    fn each_question_takes_a_pass_of_its_own() {
        let pulse = Pulse::default();
        for _ in 0..2 {
            let mut passed = pin!(pulse.passed());
            assert!(!is_ready(passed.as_mut()));
            pulse.beat();
            assert!(is_ready(passed.as_mut()));
        }
        assert!(!is_ready(pin!(pulse.passed())));
    }

    #[test]
    fn an_answer_that_comes_too_late_is_not_one_to_the_next_question() {
        let pulse = Pulse::default();
        assert!(!is_ready(pin!(pulse.passed())), "given up");
        pulse.beat();
        assert!(!is_ready(pin!(pulse.passed())));
    }

    #[test]
    fn where_the_loop_waits_by_choice_it_answers() {
        let pulse = Pulse::default();
        let (mut passed, mut waiting) = (pin!(pulse.passed()), pin!(pulse.answer()));
        assert!(!is_ready(passed.as_mut()));
        assert!(!is_ready(waiting.as_mut()));
        assert!(is_ready(passed.as_mut()));
    }
}
