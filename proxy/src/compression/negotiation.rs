use http::HeaderMap;
use http::header::ACCEPT_ENCODING;
use schemars::JsonSchema;
use serde::Deserialize;

/// A content coding that this proxy makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum Coding {
    /// RFC 7932.
    #[serde(rename = "br")]
    Brotli,
    /// RFC 1952.
    #[serde(rename = "gzip")]
    Gzip,
    /// RFC 8878, with a window within the bounds of RFC 9659.
    #[serde(rename = "zstd")]
    Zstd,
}

impl Coding {
    /// Its name in `Content-Encoding`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// The coding of `offered` that the client likes best, and of those that it likes equally, the first. `None` if it likes the
/// plain response better, or says nothing.
pub(super) fn choose(offered: &[Coding], request: &HeaderMap) -> Option<Coding> {
    let values = request.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let accepted: Vec<(&str, u16)> = values.flat_map(|value| value.split(',')).filter_map(weighted).collect();
    let named = |name: &str| {
        let found = accepted.iter().find(|(accepted, _)| {
            accepted.eq_ignore_ascii_case(name) || (name == "gzip" && accepted.eq_ignore_ascii_case("x-gzip"))
        });
        found.map(|&(_, weight)| weight)
    };
    let others = named("*");
    // Without a word about it, the plain response is what everybody can take, and nobody wants.
    let plain = named("identity").unwrap_or(0);
    let mut best = None;
    for &coding in offered {
        let weight = named(coding.name()).or(others).unwrap_or(0);
        if weight > 0 && weight >= plain && best.is_none_or(|(_, least)| weight > least) {
            best = Some((coding, weight));
        }
    }
    best.map(|(coding, _)| coding)
}

/// A coding, and its weight in thousandths (RFC 9110, section 12.4.2); `None` if it can't be read.
fn weighted(element: &str) -> Option<(&str, u16)> {
    let mut parts = element.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let Some(parameter) = parts.next() else { return Some((name, 1000)) };
    let text = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="))?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction = format!("{fraction:0<3}").parse::<u16>().ok()?;
    match whole {
        "0" => Some((name, fraction)),
        "1" if fraction == 0 => Some((name, 1000)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_what_both_know_is_taken() {
        let offered = [Coding::Brotli, Coding::Gzip, Coding::Zstd];
        for (accepted, chosen) in [
            ("gzip, deflate, br, zstd", Some("br")),
            ("gzip, br", Some("br")),
            ("deflate, zstd", Some("zstd")),
            ("br;q=0.5, zstd", Some("zstd")),
            ("gzip", Some("gzip")),
            ("x-gzip", Some("gzip")),
            ("GZIP", Some("gzip")),
            ("br;q=0.5, gzip;q=0.8", Some("gzip")),
            ("br;q=0, *", Some("gzip")),
            ("*;q=0.1", Some("br")),
            ("*;q=0", None),
            ("gzip;q=0", None),
            ("gzip;q=0.000", None),
            ("identity, gzip;q=0.5", None),
            ("identity;q=0.5, gzip", Some("gzip")),
            ("gzip;q=1.5", None),
            ("gzip;q=x", None),
            ("deflate", None),
            ("", None),
            (" , ,gzip ; q=1.0", Some("gzip")),
        ] {
            let mut request = HeaderMap::new();
            request.insert(ACCEPT_ENCODING, accepted.parse().unwrap());
            assert_eq!(choose(&offered, &request).map(Coding::name), chosen, "{accepted:?}");
        }
        assert_eq!(choose(&offered, &HeaderMap::new()), None);
    }
}
