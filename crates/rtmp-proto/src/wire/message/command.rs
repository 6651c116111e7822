//! Command messages: a name, a transaction, an object, arguments (RTMP 1.0
//! §7.1.1).

use bytes::BytesMut;

use super::envelope::{Message, MessageType};
use crate::wire::amf0::{self, Amf0Error, Value};

/// A remote call, its result, or a status.
#[derive(Clone, PartialEq, Debug)]
pub struct Command {
    /// The procedure, or `_result`, `_error`, `onStatus`.
    pub name: String,
    /// Pairs a call with its result; 0 asks for none.
    pub transaction_id: f64,
    /// The command object; null in most commands but `connect`.
    pub object: Value,
    /// The values after the command object.
    pub arguments: Vec<Value>,
}

impl Command {
    /// A command with an empty (null) command object.
    pub fn new(name: &str, transaction_id: f64, arguments: Vec<Value>) -> Command {
        Command {
            name: name.to_owned(),
            transaction_id,
            object: Value::Null,
            arguments,
        }
    }

    /// Reads a command message, in AMF0 or in AMF3 (whose one leading byte
    /// says that AMF0 follows; Flash sends nothing else).
    ///
    /// Values that are missing at the end count as null, or as 0 for the
    /// transaction: old and home-made clients leave out whatever they can. An
    /// unreadable argument ends the arguments and is otherwise of no
    /// consequence.
    ///
    /// # Errors
    /// If there is not even a name.
    pub fn parse(message: &Message, max_nesting: u32) -> Result<Command, Amf0Error> {
        let mut payload: &[u8] = &message.payload;
        if message.message_type == MessageType::COMMAND_AMF3 && payload.first() == Some(&0) {
            payload = &payload[1..];
        }
        let name = match amf0::read_value(&mut payload, max_nesting)? {
            Value::String(name) => name,
            _ => return Err(Amf0Error::CommandName),
        };
        let (values, _) = amf0::read_all(payload, max_nesting);
        let mut values = values.into_iter();
        let transaction_id = values
            .next()
            .and_then(|value| value.as_number())
            .unwrap_or(0.0);
        let object = values.next().unwrap_or(Value::Null);
        Ok(Command {
            name,
            transaction_id,
            object,
            arguments: values.collect(),
        })
    }

    /// The message to send, in AMF0, with timestamp 0.
    pub fn to_message(&self, stream_id: u32) -> Message {
        let mut payload = BytesMut::with_capacity(128);
        amf0::write_value(&Value::String(self.name.clone()), &mut payload);
        amf0::write_value(&Value::Number(self.transaction_id), &mut payload);
        amf0::write_value(&self.object, &mut payload);
        for argument in &self.arguments {
            amf0::write_value(argument, &mut payload);
        }
        Message {
            timestamp: 0,
            message_type: MessageType::COMMAND_AMF0,
            stream_id,
            payload: payload.freeze(),
        }
    }
}
