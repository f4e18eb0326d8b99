//! The hub: every event comes in here once, and goes out to every client that wants it.

use std::sync::Arc;

use crate::connections::Connection;
use crate::error::{FrameError, Refused};
use crate::event::{Event, Id, NewEvent};
use crate::feed::HubStats;
use crate::history::{History, Kept};
use crate::options::Options;
use crate::subscription::Subscription;

// solution only
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};

use crate::frame::{frame, reset};
// end solution only

/// Hands events on from those who publish to those who listen.
///
/// No call waits for a client, or for anything else: publishing takes as long with a client that does
/// not read as without.
pub(crate) struct Hub {
    // solution only
    /// How many events may wait for one client.
    queue: usize,
    max_clients: usize,
    state: Mutex<State>,
    // end solution only
}

/// What a client wants.
pub(crate) struct Wish {
    /// Only events of this topic.
    pub topic: Option<String>,
    /// Only what comes behind the event with this id, as the client sent it: any text.
    pub after: Option<String>,
    /// Where to close the connection of a client that is too slow.
    pub connection: Connection,
}

impl Hub {
    /// A hub without clients and without events.
    ///
    /// A queue of 0 is treated as 1, and one that is longer than a channel can be as the longest there
    /// is (`tokio::sync::Semaphore::MAX_PERMITS`); `mpsc::channel` panics at both.
    pub fn new(options: &Options) -> Self {
        // stub stage 1: whatever you keep; the fields of the hub are yours
        Hub {
            // The upper bound is what a channel can count to.
            queue: options.queue.clamp(1, Semaphore::MAX_PERMITS),
            max_clients: options.max_clients,
            state: Mutex::new(State {
                history: History::new(options.history),
                newest: Id::ZERO,
                clients: HashMap::new(),
                next_client: 0,
                dropped: 0,
                finished: HashSet::new(),
                closed: false,
            }),
        }
        // end stub
    }

    /// Publishes an event and returns its id, which is greater than that of every event before
    /// ([`Id::next`]). The first is that of the clock, the next one after [`Id::ZERO`]: so it is above
    /// those from before a restart as well, unless the clock was set back.
    ///
    /// **1.** It only gives the event its id.
    /// **2.** And [delivers](Self::deliver) it. Two that publish at the same moment are one after the
    /// other for every client: ids rise in every stream.
    ///
    /// # Errors
    /// [`Refused::TopicFinished`] (stage 8), [`Refused::Stopping`] after [`close`](Self::close)
    /// (stage 9).
    pub fn publish(&self, event: NewEvent) -> Result<Id, Refused> {
        // stub stage 1: the next id; from stage 2 on deliver the event, in the same step
        let mut state = self.state();
        if state.closed {
            return Err(Refused::Stopping);
        }
        if state.finished.contains(&event.topic) {
            return Err(Refused::TopicFinished);
        }
        let id = state.newest.next();
        state.deliver(id, &event.with_id(id), self.queue)?;
        Ok(id)
        // end stub
    }

    /// Hands an event that has its id on to every client. What comes from Redis comes here directly.
    ///
    /// **2, fan out.** Every client that is subscribed gets it, in the order in which events are
    /// delivered, its bytes made once, whatever the number of clients.
    /// **3, resume.** It goes into the history in the same step.
    /// **6, slow clients.** A client for which `options.queue` events wait already is dropped: its
    /// connection is closed at once, and counts no more. Nobody else notices. With its last id it may
    /// come back. For a client that still catches up, those events wait that were published since it
    /// last took something from the history; how many it takes at a time is yours to choose.
    /// **8, topics.** Only clients of the event's topic get it, and those of no topic.
    /// **9, stop.** After [`close`](Self::close) it still goes into the history, and to no stream.
    ///
    /// # Errors
    /// [`FrameError`] if it cannot be framed; then nobody got it.
    pub fn deliver(&self, id: Id, event: &Event) -> Result<(), FrameError> {
        // stub stage 2: frame it once, give each client its share of the bytes
        self.state().deliver(id, event, self.queue)
        // end stub
    }

    /// Opens a stream. What it will bring is decided here, in one step, before the call returns:
    ///
    /// **2, fan out.** Every event that is delivered from now on, and none from before.
    /// **3, resume.** If the client names the id of an event (`wish.after`): every event behind that
    /// one, in order, and then what is delivered from now on. Nothing is missing and nothing is there
    /// twice, at whatever moment others publish.
    /// **4, expire.** An id that is none, or not of an event that is kept
    /// ([`History::knows`]): first a [`reset`](crate::frame::reset) that names the oldest event there
    /// is (of the whole history, not of the topic), then everything that is kept, then the rest.
    /// **8, topics and limits.** With a topic only that topic's events, but every kept id will do to
    /// resume from. Once a topic is [finished](Self::finish), what it still has for the client, and
    /// then the end. What it has are events: for an id that is not known there is a reset in front of
    /// them, but where no event of the topic is kept, nothing is left. A reset alone would bring no id,
    /// and the client would come back with the old one for ever.
    ///
    /// # Errors
    /// [`Refused::TooManyClients`] if `options.max_clients` streams are open, counted exactly also
    /// when many connect at once (stage 8); [`Refused::NothingLeft`] if the topic is finished and has
    /// nothing more for this client (stage 8), which comes before the count; [`Refused::Stopping`]
    /// after [`close`](Self::close) (stage 9).
    pub fn subscribe(self: &Arc<Self>, wish: Wish) -> Result<Subscription, Refused> {
        // stub stage 2: a queue for this client, known to deliver() from here on
        let mut state = self.state();
        if state.closed {
            return Err(Refused::Stopping);
        }
        let mut first = VecDeque::new();
        let position = match wish.after.as_deref().map(Id::parse) {
            None => state.newest,
            Some(Some(id)) if state.history.knows(id) => id,
            Some(_) => {
                first.push_back(reset(state.history.oldest()));
                state.history.start()
            }
        };
        if state.is_finished(wish.topic.as_deref()) {
            let left = state.history.after(position, wish.topic.as_deref(), 1);
            if left.is_none_or(|page| page.frames.is_empty()) {
                return Err(Refused::NothingLeft);
            }
        }
        if state.clients.len() >= self.max_clients {
            return Err(Refused::TooManyClients);
        }
        let client = state.next_client;
        state.next_client += 1;
        state.clients.insert(
            client,
            Client {
                topic: wish.topic.clone(),
                connection: wish.connection,
                place: Place::CatchingUp { missed: 0 },
            },
        );
        let hub = Arc::clone(self);
        let mut subscription = Subscription::new(hub, client, wish.topic, position, first);
        // With nothing to catch up on, it is live before anything else can be published.
        subscription.turn_page(&mut state, self.queue);
        Ok(subscription)
        // end stub
    }

    /// What there is now: the streams that are open, the events that are kept (from stage 3 on), the
    /// clients that were dropped (from stage 6 on).
    ///
    /// **6.** A stream is not open any more once its [`Subscription`] is dropped, which happens as
    /// soon as the client is gone.
    pub fn stats(&self) -> HubStats {
        // stub stage 2: count the clients
        let state = self.state();
        HubStats {
            clients: state.clients.len(),
            history: state.history.stats(),
            dropped_clients: state.dropped,
        }
        // end stub
    }

    /// The id of the last event that was delivered, or given to [`replace`](Self::replace);
    /// [`Id::ZERO`] before the first.
    pub fn newest(&self) -> Id {
        // stub stage 7: the id that deliver() saw last
        self.state().newest
        // end stub
    }

    /// Begins anew with these events, oldest first, and these finished topics, in one step: what a
    /// node does when it starts on a stream of Redis, and when it has lost its place in it. Streams
    /// that are open are closed at once; their clients come back and resume, or are told to reset.
    /// They were not too slow, so they do not count as dropped. A hub that is closed stays closed.
    pub fn replace(&self, events: Vec<Kept>, finished: Vec<String>) {
        // stub stage 7: close every connection, forget everything, keep what is given
        let mut state = self.state();
        for (_, client) in state.clients.drain() {
            client.connection.close();
        }
        state.history = History::new(state.history.limit());
        state.newest = events.last().map_or(Id::ZERO, |event| event.id);
        state.finished = finished.into_iter().collect();
        for event in events {
            state.history.push(event);
        }
        // end stub
    }

    /// Finishes a topic: nothing can be published to it any more, and the streams of this topic end
    /// after what was published before. Streams without a topic go on. Finished twice is finished.
    pub fn finish(&self, topic: &str) {
        // stub stage 8: remember it, and let the streams of the topic end behind what waits for them
        let mut state = self.state();
        state.finished.insert(topic.to_owned());
        for client in state.clients.values_mut() {
            if client.topic.as_deref() == Some(topic) {
                client.place.end();
            }
        }
        // end stub
    }

    /// Ends all streams, each after what was published before. From here on nothing is published and
    /// no stream opened.
    pub fn close(&self) {
        // stub stage 9: remember it, and let all streams end behind what waits for them
        let mut state = self.state();
        state.closed = true;
        for client in state.clients.values_mut() {
            client.place.end();
        }
        // end stub
    }

    /// Lets every event go that is older than `id` ([`History::forget_before`]).
    pub fn forget_before(&self, id: Id) {
        // stub stage 7: have the history do it
        self.state().history.forget_before(id);
        // end stub
    }

    // solution only
    /// How many events may wait for one client.
    pub fn queue(&self) -> usize {
        self.queue
    }

    /// A client is gone.
    pub fn leave(&self, client: u64) {
        self.state().clients.remove(&client);
    }

    /// The state is whole between two statements, so one that panicked leaves it usable.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    // end solution only
}

// solution only
pub(crate) struct State {
    pub history: History,
    newest: Id,
    clients: HashMap<u64, Client>,
    next_client: u64,
    dropped: u64,
    finished: HashSet<String>,
    closed: bool,
}

/// A stream that is open.
struct Client {
    topic: Option<String>,
    connection: Connection,
    place: Place,
}

/// Where a client gets its next event from.
enum Place {
    /// From the history, which also has what is published meanwhile. How much that was since it last
    /// took something: a client that takes nothing is as slow as one whose queue is full.
    CatchingUp { missed: usize },
    /// From its queue.
    Live(mpsc::Sender<Bytes>),
    /// Nothing more comes.
    Ending,
}

impl State {
    fn deliver(&mut self, id: Id, event: &Event, queue: usize) -> Result<(), FrameError> {
        let frame = frame(event)?;
        self.newest = id;
        self.clients.retain(|_, client| {
            let fits = client.offer(&event.topic, &frame, queue);
            if !fits {
                client.connection.close();
                self.dropped += 1;
            }
            fits
        });
        self.history.push(Kept {
            id,
            topic: event.topic.clone(),
            frame,
        });
        Ok(())
    }

    fn is_finished(&self, topic: Option<&str>) -> bool {
        topic.is_some_and(|topic| self.finished.contains(topic))
    }

    /// A client has taken a page and will come for another.
    pub fn took_page(&mut self, client: u64) {
        let place = self.clients.get_mut(&client).map(|it| &mut it.place);
        if let Some(Place::CatchingUp { missed }) = place {
            *missed = 0;
        }
    }

    /// A client has taken the last page: what comes now goes into its queue, which ends at once if
    /// nothing will come any more.
    pub fn go_live(&mut self, client: u64, queue: usize) -> mpsc::Receiver<Bytes> {
        let (sender, receiver) = mpsc::channel(queue);
        let closed = self.closed;
        let finished = &self.finished;
        if let Some(client) = self.clients.get_mut(&client) {
            let over = client
                .topic
                .as_ref()
                .is_some_and(|it| finished.contains(it));
            client.place = match closed || over {
                true => Place::Ending,
                false => Place::Live(sender),
            };
        }
        receiver
    }
}

impl Client {
    /// Offers an event to the client. False if it has no room for it.
    fn offer(&mut self, topic: &str, frame: &Bytes, queue: usize) -> bool {
        if self.topic.as_deref().is_some_and(|wanted| wanted != topic) {
            return true;
        }
        match &mut self.place {
            Place::CatchingUp { missed } => {
                *missed += 1;
                *missed <= queue
            }
            Place::Live(sender) => match sender.try_send(frame.clone()) {
                Ok(()) => true,
                // It is leaving by itself.
                Err(mpsc::error::TrySendError::Closed(_)) => true,
                Err(mpsc::error::TrySendError::Full(_)) => false,
            },
            Place::Ending => true,
        }
    }
}

impl Place {
    /// Lets a queue end behind what is in it. Whoever still catches up ends after the last page.
    fn end(&mut self) {
        if let Place::Live(_) = self {
            *self = Place::Ending;
        }
    }
}
// end solution only
