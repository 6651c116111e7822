//! The mark of a slate, by which servers of ours tell it from a programme: a property of its
//! metadata. Players ignore it, and servers pass it on that do not know it.

use rtmp_proto::wire::amf0::Value;
use rtmp_proto::wire::message::data;
use rtmp_proto::wire::{Limits, Message};

pub(crate) const NAME: &str = "millraceSlate";

/// The property in AMF0: `true`. What a program like ffmpeg makes of it, which copies metadata
/// from its input to its output, is a string.
const MARK: &[u8] = b"\0\x0dmillraceSlate\x01\x01";

/// True if the metadata `payload` has the mark.
pub(crate) fn is_in(payload: &[u8]) -> bool {
    payload.windows(MARK.len()).any(|bytes| bytes == MARK)
}

/// Metadata of time 0 with the mark, and with what `metadata` has, if there is any.
pub(crate) fn metadata(metadata: Option<&Message>) -> Message {
    let nesting = Limits::default().amf_nesting;
    let values = metadata.map(|it| data::values(it, nesting));
    let values = values.unwrap_or_default();
    let properties = values.iter().map(Value::properties);
    let properties = properties.flatten().filter(|(name, _)| name != NAME);
    let mark = (NAME.to_owned(), Value::Boolean(true));
    let properties = properties.cloned().chain([mark]).collect();
    data::message(0, 0, &["onMetaData".into(), Value::EcmaArray(properties)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slate_keeps_its_metadata_and_has_the_mark() {
        let width = ("width".to_owned(), Value::Number(320.0));
        let values = [
            "onMetaData".into(),
            Value::EcmaArray(vec![width.clone(), (NAME.to_owned(), "true".into())]),
        ];
        let former = data::message(0, 0, &values);
        assert!(!is_in(&former.payload), "a string is none");
        let marked = metadata(Some(&former));
        assert!(is_in(&marked.payload));
        let values = data::values(&marked, Limits::default().amf_nesting);
        let mark = (NAME.to_owned(), Value::Boolean(true));
        assert_eq!(values[1].properties(), [width, mark]);
    }

    #[test]
    fn a_slate_without_metadata_gets_some() {
        let marked = metadata(None);
        assert_eq!(data::kind(&marked), data::DataKind::Metadata);
        assert!(is_in(&marked.payload));
    }
}
