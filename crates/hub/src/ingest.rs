//! A source and its streams: one after the other or side by side, opened again when due.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::event::Event;
use crate::intake::{Intake, Message};
use crate::listeners::REST;
use crate::plan::Reconnect;
use crate::presence::{Presence, Producers};
use crate::reading::{End, Reading};
use crate::retry::{Backoff, LONGEST};
use crate::shutdown::Phase;
use crate::source::{Habit, OpenError, Opened, Reader, Source, SourceKind};

/// One source while it runs.
#[derive(Clone)]
pub struct Ingest {
    intake: Intake,
    reconnect: Reconnect,
}

/// What a live capture gets to hand over what is in its ring when the hub ends.
pub const LAST_WORDS: Duration = Duration::from_millis(500);

/// What to do about a circle.
const CIRCLE: &str = "it brings back packets that came from here: hubs dial each other in a circle; \
                      remove one of the links";

impl Ingest {
    /// A source, and when it is opened again.
    pub fn new(intake: Intake, reconnect: Reconnect) -> Self {
        Ingest { intake, reconnect }
    }

    /// Reads the source until it has ended or the hub stops.
    pub async fn run(self, source: Box<dyn Source>, kind: &'static SourceKind) {
        let shutdown = self.intake.shutdown.clone();
        let error = tokio::select! {
            error = async { match kind.habit {
                Habit::Many => self.side_by_side(source).await,
                habit => self.in_turn(source, habit).await,
            }} => error,
            () = async {
                shutdown.reached(Phase::Draining).await;
                if !kind.can_wait {
                    // What was captured until now still comes.
                    tokio::time::sleep(LAST_WORDS).await;
                }
            } => None,
        };
        if let Some(why) = &error {
            self.intake.shared.events.emit(Event::SourceFailed { source: &self.intake.spec.name, why });
        }
        self.intake.send(Message::Ended { source: self.intake.source, error }).await;
    }

    /// Streams one after the other; what went wrong if the last one ended in an error.
    async fn in_turn(&self, mut source: Box<dyn Source>, habit: Habit) -> Option<String> {
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            let end = match source.next().await {
                Ok(Some(opened)) if self.intake.spec.repeat != 1 => match self.turn(opened).await {
                    Ok(()) => continue,
                    Err(end) => end,
                },
                Ok(Some(opened)) => self.read(opened, None).await,
                Ok(None) => return None,
                Err(OpenError::Never(why)) => return Some(why),
                Err(OpenError::Later(why) | OpenError::Pressed(why)) => {
                    self.intake.send(Message::Away { source: self.intake.source }).await;
                    End::Broken(why)
                }
            };
            let in_a_circle = matches!(end, End::Circle);
            let why = match (end, self.reconnect) {
                (End::Unwanted, _) => return None,
                (End::Clean, _) if habit == Habit::Once => return None,
                (End::Clean, Reconnect::Error | Reconnect::No) => return None,
                (End::Clean, Reconnect::Always) => "it closed".to_owned(),
                (End::Silent, Reconnect::No) => return Some("it closed without a single octet".into()),
                (End::Silent, _) if habit == Habit::Once => {
                    return Some("it is empty: not even a header".into());
                }
                (End::Silent, _) => "it closed without a single octet".to_owned(),
                (End::Broken(why), Reconnect::No) => return Some(why),
                (End::Broken(why), _) if habit == Habit::Once => return Some(why),
                (End::Broken(why), _) => why,
                (End::Circle, Reconnect::No) => return Some(CIRCLE.into()),
                (End::Circle, _) => CIRCLE.to_owned(),
            };
            let pause = if in_a_circle { LONGEST } else { backoff.next_pause(started.elapsed()) };
            self.intake.shared.books.source(self.intake.source, |counts| counts.away = Some(why.clone()));
            self.intake.shared.events.emit(Event::SourceRetried {
                source: &self.intake.spec.name,
                why: &why,
                pause,
            });
            tokio::time::sleep(pause).await;
        }
    }

    /// One turn of a file that is read again and again. Returns when the next one may begin; how it ended where
    /// there is none.
    async fn turn(&self, opened: Opened) -> Result<(), End> {
        let end = self.read(opened, None).await;
        let turn = std::mem::take(&mut self.intake.turning().turn);
        let (go_on, told) = oneshot::channel();
        self.intake.send(Message::Turned { source: self.intake.source, turn, go_on }).await;
        match (end, told) {
            (End::Clean, told) => match told.await {
                Ok(shift) => self.intake.turning().shift = shift,
                Err(_) => return Err(End::Clean),
            },
            (end, _) => return Err(end),
        }
        Ok(())
    }

    /// Streams as they come. With `reconnect=no` the source has ended when its producers have.
    async fn side_by_side(&self, mut source: Box<dyn Source>) -> Option<String> {
        let mut streams = JoinSet::new();
        let mut producers =
            Producers::new(self.intake.shared.max_producers, self.intake.shared.producer_silence);
        loop {
            tokio::select! {
                opened = source.next() => match opened {
                    Ok(Some(opened)) => match producers.admit(self.intake.shared.clock.now()) {
                        Some(presence) => {
                            let ingest = self.clone();
                            streams.spawn(async move { ingest.produce(opened, presence).await });
                        }
                        None => self.refuse(&opened),
                    },
                    Ok(None) => return None,
                    Err(OpenError::Pressed(_)) => {
                        producers.cut_longest_silent(self.intake.shared.clock.now());
                        tokio::time::sleep(REST).await;
                    }
                    Err(OpenError::Never(why) | OpenError::Later(why)) => return Some(why),
                },
                Some(ended) = streams.join_next() => {
                    producers.tidy();
                    if self.intake.is_done() {
                        return None;
                    }
                    if self.reconnect == Reconnect::No && streams.is_empty() {
                        return ended.ok().flatten();
                    }
                }
            }
        }
    }

    fn refuse(&self, opened: &Opened) {
        let (source, peer) = (&self.intake.spec.name, &opened.name);
        let why = "there are as many producers as --max-producers allows, and all are at work";
        self.intake.shared.events.emit(Event::ProducerRefused { source, peer, why });
    }

    /// One producer's stream; what went wrong with it.
    async fn produce(&self, opened: Opened, presence: Arc<Presence>) -> Option<String> {
        let name = opened.name.clone();
        match self.read(opened, Some(presence)).await {
            End::Clean | End::Unwanted => None,
            End::Silent => {
                let why = &"a producer connected and sent nothing";
                self.intake.shared.events.emit(Event::ProducerSilent { source: &name, why });
                None
            }
            End::Broken(why) => {
                self.intake.shared.events.emit(Event::SourceFailed { source: &name, why: &why });
                Some(why)
            }
            End::Circle => {
                self.intake.shared.events.emit(Event::SourceFailed { source: &name, why: &CIRCLE });
                Some(CIRCLE.into())
            }
        }
    }

    /// One stream from its first octet to its last.
    async fn read(&self, opened: Opened, presence: Option<Arc<Presence>>) -> End {
        let stream = self.intake.shared.next_stream.fetch_add(1, Ordering::Relaxed);
        let reading = Reading::new(&self.intake, stream, &opened.name, presence);
        let streaming = self.intake.shared.books.streaming(self.intake.source, opened.peer);
        let _held = (opened.place, opened.own, streaming);
        let mut end = match opened.reader {
            Reader::Async(reader) => reading.on_task(reader).await,
            Reader::Blocking(reader) => reading.on_thread(reader).await,
            Reader::Packets(reader) => reading.capturing(reader).await,
        };
        if let Some(child) = opened.child {
            let status = child.ended().await;
            let failed = status.filter(|status| !status.success());
            if let (End::Clean | End::Silent, Some(status)) = (&end, failed) {
                end = End::Broken(format!("the command ended with {status}"));
            }
        }
        self.intake.send(Message::Closed { source: self.intake.source, stream }).await;
        end
    }
}
