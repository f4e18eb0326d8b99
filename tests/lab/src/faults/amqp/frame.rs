//! One event on the wire: a method, and the message that comes with some of them.

use std::time::Duration;

use amq_protocol::protocol::{AMQPClass, basic, channel, connection, queue};
use amq_protocol::types::AMQPValue;

/// Who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The candidate.
    Client,
    /// RabbitMQ.
    Broker,
}

/// A method that passed the proxy, whole: for a publish, a delivery or a return with its message.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// The connection, numbered from 1 in the order they were opened.
    pub connection: u64,
    /// The channel on that connection.
    pub channel: u16,
    /// Its place in the proxy's log.
    pub seq: usize,
    /// When all of it had reached the proxy, counted from the moment the lab began.
    pub at: Duration,
    /// Who sent it.
    pub from: Side,
    /// What it says.
    pub method: AMQPClass,
    /// What it carries.
    pub message: Option<Message>,
    /// Whether it was passed on.
    pub passed: bool,
}

/// A message: its properties and its body.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Content type, delivery mode, message id, headers and so on.
    pub properties: basic::AMQPProperties,
    /// The bytes.
    pub body: Vec<u8>,
}

impl Message {
    /// The property `message-id`, or nothing.
    pub fn id(&self) -> &str {
        let id = self.properties.message_id().as_ref();
        id.map_or("", |id| id.as_str())
    }

    /// Whether RabbitMQ is to write it to disk: delivery mode 2.
    pub fn is_persistent(&self) -> bool {
        *self.properties.delivery_mode() == Some(2)
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&AMQPValue> {
        let headers = self.properties.headers().as_ref();
        headers.and_then(|headers| headers.inner().get(name))
    }
}

impl Frame {
    /// The method's name, as `basic.publish`.
    pub fn name(&self) -> String {
        // `Basic(Publish(Publish { … }))`
        let debug = format!("{:?}", self.method);
        let mut words = debug.split('(');
        let (class, method) = (words.next(), words.next());
        let method = method.unwrap_or_default().trim_end_matches(')');
        format!("{}.{}", class.unwrap_or_default(), method).to_lowercase()
    }

    /// The same for a reader of a history, with whose it is and the message's id.
    pub(super) fn said(&self) -> String {
        let whose = match self.from {
            Side::Client => "",
            Side::Broker => "RabbitMQ's ",
        };
        let id = self.message.as_ref().map_or("", Message::id);
        let id = match id {
            "" => String::new(),
            id => format!(" ({id})"),
        };
        format!("{whose}{}{id}", self.name())
    }

    /// What the client publishes.
    pub fn publish(&self) -> Option<(&basic::Publish, &Message)> {
        match (&self.method, &self.message) {
            (AMQPClass::Basic(basic::AMQPMethod::Publish(publish)), Some(message)) => {
                Some((publish, message))
            }
            _ => None,
        }
    }

    /// What RabbitMQ delivers to a consumer.
    pub fn deliver(&self) -> Option<(&basic::Deliver, &Message)> {
        match (&self.method, &self.message) {
            (AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver)), Some(message)) => {
                Some((deliver, message))
            }
            _ => None,
        }
    }

    /// The client settles deliveries: their tag, whether those before are meant too, and whether they go
    /// back to the queue.
    pub fn settles(&self) -> Option<(u64, bool, bool)> {
        if self.from != Side::Client {
            return None;
        }
        match &self.method {
            AMQPClass::Basic(basic::AMQPMethod::Ack(ack)) => {
                Some((ack.delivery_tag, ack.multiple, false))
            }
            AMQPClass::Basic(basic::AMQPMethod::Nack(nack)) => {
                Some((nack.delivery_tag, nack.multiple, nack.requeue))
            }
            AMQPClass::Basic(basic::AMQPMethod::Reject(reject)) => {
                Some((reject.delivery_tag, false, reject.requeue))
            }
            _ => None,
        }
    }

    /// The client publishes.
    pub fn is_publish(&self) -> bool {
        self.publish().is_some()
    }

    /// The client publishes to this exchange.
    pub fn is_publish_to(&self, exchange: &str) -> bool {
        self.publish()
            .is_some_and(|(publish, _)| publish.exchange.as_str() == exchange)
    }

    /// RabbitMQ delivers.
    pub fn is_deliver(&self) -> bool {
        self.deliver().is_some()
    }

    /// The client acknowledges.
    pub fn is_ack(&self) -> bool {
        let is_ack = matches!(&self.method, AMQPClass::Basic(basic::AMQPMethod::Ack(_)));
        self.from == Side::Client && is_ack
    }

    /// RabbitMQ confirms what was published: it has it.
    pub fn is_confirm(&self) -> bool {
        let is_ack = matches!(&self.method, AMQPClass::Basic(basic::AMQPMethod::Ack(_)));
        self.from == Side::Broker && is_ack
    }

    /// RabbitMQ answers what was published, by a confirm or a nack: the tag, and whether those before are
    /// meant too.
    pub fn confirms(&self) -> Option<(u64, bool)> {
        if self.from != Side::Broker {
            return None;
        }
        match &self.method {
            AMQPClass::Basic(basic::AMQPMethod::Ack(ack)) => Some((ack.delivery_tag, ack.multiple)),
            AMQPClass::Basic(basic::AMQPMethod::Nack(nack)) => {
                Some((nack.delivery_tag, nack.multiple))
            }
            _ => None,
        }
    }

    /// The client consumes: from which queue, and whether without acknowledgements.
    pub fn consume(&self) -> Option<&basic::Consume> {
        match &self.method {
            AMQPClass::Basic(basic::AMQPMethod::Consume(consume)) => Some(consume),
            _ => None,
        }
    }

    /// The client declares this queue; not one that only asks whether it is there.
    pub fn declares_queue(&self) -> Option<&queue::Declare> {
        match &self.method {
            AMQPClass::Queue(queue::AMQPMethod::Declare(declare)) if !declare.passive => {
                Some(declare)
            }
            _ => None,
        }
    }

    /// RabbitMQ closes a channel: its code and its reason.
    pub fn closes_channel(&self) -> Option<&channel::Close> {
        match &self.method {
            AMQPClass::Channel(channel::AMQPMethod::Close(close)) if self.from == Side::Broker => {
                Some(close)
            }
            _ => None,
        }
    }

    /// RabbitMQ closes the connection: its code and its reason.
    pub fn closes_connection(&self) -> Option<&connection::Close> {
        match &self.method {
            AMQPClass::Connection(connection::AMQPMethod::Close(close))
                if self.from == Side::Broker =>
            {
                Some(close)
            }
            _ => None,
        }
    }
}
