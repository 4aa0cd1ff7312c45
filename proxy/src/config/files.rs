use std::fmt;
use std::path::PathBuf;

use serde::Deserializer;
use serde::de::{Error, SeqAccess};

/// Certificates that a site may have: no client knows more kinds of keys.
const MOST: usize = 8;

/// Reads a path, or an array of paths that is not empty.
pub(super) fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    struct Visitor;

    impl<'de> serde::de::Visitor<'de> for Visitor {
        type Value = Vec<PathBuf>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the path of a PEM file, or an array of them")
        }

        fn visit_str<E: Error>(self, path: &str) -> Result<Self::Value, E> {
            Ok(vec![path.into()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut paths: Vec<PathBuf> = Vec::new();
            while let Some(path) = seq.next_element()? {
                if paths.contains(&path) {
                    return Err(Error::custom(format!("{} is named twice", path.display())));
                }
                paths.push(path);
                if paths.len() > MOST {
                    return Err(Error::custom("more than eight files: one for each kind of key is enough"));
                }
            }
            if paths.is_empty() {
                return Err(Error::custom("at least one file is needed"));
            }
            Ok(paths)
        }
    }

    deserializer.deserialize_any(Visitor)
}
