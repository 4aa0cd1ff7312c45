use core::fmt;
use core::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Reads a list: no more room is made than for the entries that are there, `MAX` at most.
pub(crate) fn at_most<'de, const MAX: usize, T, D>(source: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    struct List<const MAX: usize, T>(PhantomData<T>);

    impl<'de, const MAX: usize, T: Deserialize<'de>> Visitor<'de> for List<MAX, T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX} entries")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut found = Vec::new();
            while let Some(entry) = entries.next_element()? {
                if found.len() == MAX {
                    return Err(A::Error::invalid_length(MAX + 1, &self));
                }
                found.push(entry);
            }
            Ok(found)
        }
    }

    source.deserialize_seq(List::<MAX, T>(PhantomData))
}
