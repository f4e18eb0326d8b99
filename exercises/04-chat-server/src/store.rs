use crate::frames::Message;

pub enum Event {
    Joined { room: String, name: String, seq: u64 },
    Left { room: String, name: String },
    Said(Message),
}
