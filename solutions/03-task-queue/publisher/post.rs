//! The channel that publishes, and the one task that uses it.
//!
//! RabbitMQ returns a message that no queue has taken, and then acknowledges it like any other. The
//! client library does not look which message came back: it hands it out with the confirm that comes
//! next, and if others were under way that may be another message's. Whoever looks at his own confirm
//! alone then takes a lost message for a stored one. So all that have come are looked at together, and
//! a number that travels with each message tells which one was returned.

use std::collections::HashMap;

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use lapin::message::BasicReturnMessage;
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::{mpsc, oneshot};

use crate::error::Error;

/// How many messages may be on their way to RabbitMQ and not confirmed: those are in our memory.
const WINDOW: usize = 1024;

/// Where messages are handed in.
#[derive(Debug)]
pub(super) struct Post {
    channel: Channel,
    letters: mpsc::Sender<Letter>,
}

struct Letter {
    exchange: String,
    key: String,
    properties: BasicProperties,
    body: Vec<u8>,
    answer: oneshot::Sender<Result<(), Error>>,
}

/// A message of which all is known that RabbitMQ has to say.
struct Ended {
    number: u64,
    said: lapin::Result<Confirmation>,
    answer: oneshot::Sender<Result<(), Error>>,
}

impl Post {
    /// On a channel in confirm mode.
    pub fn on(channel: Channel) -> Post {
        let (letters, handed_in) = mpsc::channel(1);
        tokio::spawn(work(channel.clone(), handed_in));
        Post { channel, letters }
    }

    pub fn is_open(&self) -> bool {
        self.channel.status().connected()
    }

    /// Returns once RabbitMQ has stored the message, or it is known that it has not.
    pub async fn send(
        &self,
        exchange: &str,
        key: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        let letter = Letter {
            exchange: exchange.to_owned(),
            key: key.to_owned(),
            properties,
            body: body.to_vec(),
            answer,
        };
        let sent = self.letters.send(letter).await;
        let answer = match sent {
            Ok(()) => answered.await.ok(),
            Err(_) => None,
        };
        answer.unwrap_or_else(|| Err(Error::Away("nobody publishes any more".to_owned())))
    }
}

/// Publishes what is handed in, and answers, until the post is dropped.
async fn work(channel: Channel, mut letters: mpsc::Receiver<Letter>) {
    let mut under_way = FuturesUnordered::new();
    let mut returned = HashMap::new();
    let mut numbers = 1_u64..;
    let mut is_open = true;
    loop {
        tokio::select! {
            biased;
            Some(first) = under_way.next() => {
                let mut ended = vec![first];
                while let Some(Some(another)) = under_way.next().now_or_never() {
                    ended.push(another);
                }
                answer(ended, &mut returned);
            }
            letter = letters.recv(), if is_open && under_way.len() < WINDOW => {
                match letter.zip(numbers.next()) {
                    // Whoever has given up by now is not to have what he was told he has not.
                    Some((letter, _)) if letter.answer.is_closed() => {}
                    Some((letter, number)) => under_way.push(publish(&channel, letter, number)),
                    None => is_open = false,
                }
            }
            else => return,
        }
    }
}

async fn publish(channel: &Channel, letter: Letter, number: u64) -> Ended {
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let properties = letter.properties;
    let sent = channel
        .basic_publish(
            letter.exchange.into(),
            letter.key.into(),
            options,
            &letter.body,
            properties.with_correlation_id(number.to_string().into()),
        )
        .await;
    Ended {
        number,
        said: match sent {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        },
        answer: letter.answer,
    }
}

/// Answers those whose messages have ended. A return comes with a confirm that is no later than that of
/// the message that was returned, so it is among these or was among those before.
fn answer(ended: Vec<Ended>, returned: &mut HashMap<u64, String>) {
    for one in &ended {
        if let Ok(Confirmation::Ack(Some(message)) | Confirmation::Nack(Some(message))) = &one.said
            && let Some(number) = number_of(message)
        {
            returned.insert(number, message.reply_text.to_string());
        }
    }
    for one in ended {
        let answer = match (returned.remove(&one.number), one.said) {
            (Some(why), _) => Err(Error::Unroutable(why)),
            (None, Ok(Confirmation::Ack(_))) => Ok(()),
            (None, Ok(Confirmation::Nack(_))) => Err(Error::Refused),
            (None, Ok(Confirmation::NotRequested)) => {
                Err(Error::Away("the channel does not confirm".to_owned()))
            }
            (None, Err(error)) => Err(Error::Away(error.to_string())),
        };
        // Nobody hears it if the submit took too long.
        let _ = one.answer.send(answer);
    }
}

fn number_of(message: &BasicReturnMessage) -> Option<u64> {
    let number = message.delivery.properties.correlation_id().as_ref()?;
    number.as_str().parse().ok()
}
