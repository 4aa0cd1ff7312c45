use super::*;

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
    }
    headers
}

fn fields(headers: &HeaderMap) -> Vec<(&str, &str)> {
    let mut fields: Vec<_> =
        headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    fields.sort_unstable();
    fields
}

#[test]
fn request_fields_of_one_connection_do_not_go_upstream() {
    for (sent, forwarded) in [
        (&[("accept", "*/*"), ("host", "a")][..], &[("accept", "*/*"), ("host", "a")][..]),
        (&[("connection", "keep-alive"), ("keep-alive", "timeout=5"), ("a", "b")], &[("a", "b")]),
        (
            &[
                ("connection", "close, X-Secret"),
                ("connection", "x-other"),
                ("x-secret", "1"),
                ("x-other", "2"),
            ],
            &[],
        ),
        (
            &[("connection", "host, content-length"), ("host", "a"), ("content-length", "5")],
            &[("content-length", "5"), ("host", "a")],
        ),
        (
            &[("upgrade", "h2c"), ("connection", "upgrade, http2-settings"), ("http2-settings", "AAMAAABk")],
            &[],
        ),
        (&[("transfer-encoding", "chunked")], &[]),
        (&[("te", "gzip")], &[]),
        (&[("te", "trailers, deflate")], &[("connection", "te"), ("te", "trailers")]),
        (&[("trailer", "x-sum")], &[("trailer", "x-sum")]),
        (&[("proxy-authorization", "Basic eA=="), ("proxy-connection", "close"), ("proxy", "http://x")], &[]),
        (&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-port", "1"), ("forwarded", "for=1.1.1.1")], &[]),
        (&[("x_forwarded_for", "1.1.1.1"), ("x-forwarded_proto", "http"), ("x_real_ip", "1.1.1.1")], &[]),
        (
            &[("x-real-ip", "1.1.1.1"), ("x-real-ipx", "1"), ("x-forwardedfor", "1")],
            &[("x-forwardedfor", "1"), ("x-real-ipx", "1")],
        ),
        (
            &[
                ("client-cert", ":AA==:"),
                ("x_client-cert_verified", "SUCCESS"),
                ("x-ssl-client-verify", "SUCCESS"),
            ],
            &[],
        ),
        (&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")], &[("cookie", "a=1; b=2; c=3")]),
        (
            &[("expect", "100-continue"), ("via", "1.1 a"), ("x_custom", "1")],
            &[("expect", "100-continue"), ("via", "1.1 a"), ("x_custom", "1")],
        ),
    ] {
        let mut headers = map(sent);
        prepare_request(&mut headers, Framing::AsSent, false);
        assert_eq!(fields(&headers), forwarded, "{sent:?}");
    }
}

#[test]
fn a_request_says_how_its_body_is_framed() {
    for (framing, fields_of_it) in [
        (Framing::Chunked, &[("transfer-encoding", "chunked")][..]),
        (Framing::Empty, &[("content-length", "0")]),
        (Framing::AsSent, &[]),
    ] {
        let mut headers = map(&[]);
        prepare_request(&mut headers, framing, false);
        assert_eq!(fields(&headers), fields_of_it, "{framing:?}");
    }
}

#[test]
fn response_fields_of_one_connection_do_not_go_to_the_client() {
    for (sent, length, forwarded) in [
        (
            &[("server", "x"), ("alt-svc", "h3"), ("date", "d")][..],
            None,
            &[("alt-svc", "h3"), ("date", "d"), ("server", "x")][..],
        ),
        (&[("connection", "close, x-a"), ("x-a", "1"), ("keep-alive", "5")], None, &[]),
        (&[("transfer-encoding", "Chunked"), ("content-length", "5")], None, &[]),
        (&[("content-length", "5, 5")], Some(5), &[("content-length", "5")]),
        (&[("content-length", "5"), ("content-length", "5")], Some(5), &[("content-length", "5")]),
        (&[("upgrade", "h2")], None, &[]),
        (&[("set-cookie", "a"), ("set-cookie", "b")], None, &[("set-cookie", "a"), ("set-cookie", "b")]),
        (&[("trailer", "x-sum"), ("te", "trailers")], None, &[("trailer", "x-sum")]),
    ] {
        let mut headers = map(sent);
        prepare_response(&mut headers, length, false).unwrap();
        assert_eq!(fields(&headers), forwarded, "{sent:?}");
    }
    assert!(prepare_response(&mut map(&[("transfer-encoding", "gzip, chunked")]), None, false).is_err());
}

#[test]
fn framing_that_leaves_a_doubt_is_refused() {
    for good in [
        &[][..],
        &[("content-length", "0")],
        &[("content-length", "12")],
        &[("transfer-encoding", "chunked")],
        &[("transfer-encoding", "Chunked")],
    ] {
        assert!(check_framing(&map(good)).is_ok(), "{good:?}");
    }
    for bad in [
        &[("content-length", "5"), ("content-length", "5")][..],
        &[("content-length", "5"), ("content-length", "6")],
        &[("content-length", "5, 5")],
        &[("content-length", "+5")],
        &[("content-length", "-1")],
        &[("content-length", "0x5")],
        &[("content-length", "")],
        &[("content-length", "5"), ("transfer-encoding", "chunked")],
        &[("transfer-encoding", "gzip, chunked")],
        &[("transfer-encoding", "chunked, identity")],
        &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        &[("transfer-encoding", "xchunked")],
        &[("transfer-encoding", "")],
    ] {
        assert!(check_framing(&map(bad)).is_err(), "{bad:?}");
    }
}

#[test]
fn upstreams_are_told_who_asked_for_what() {
    for (remote, address, forwarded) in [
        ("192.0.2.1:1", "192.0.2.1", r#"for=192.0.2.1;host="a.example:8443";proto=https"#),
        ("[2001:db8::1]:1", "2001:db8::1", r#"for="[2001:db8::1]";host="a.example:8443";proto=https"#),
        ("[::ffff:192.0.2.1]:1", "192.0.2.1", r#"for=192.0.2.1;host="a.example:8443";proto=https"#),
    ] {
        let connection = crate::forward::tests::connection_from(remote, crate::Protocol::Http1);
        let forwarding = Forwarding::of(&connection);
        let mut headers = map(&[]);
        forwarding.about("b.example").unwrap().write(&mut headers, true);
        assert_eq!(headers["x-forwarded-host"], "b.example");
        assert!(!headers.contains_key(HOST));
        forwarding.about("a.example:8443").unwrap().write(&mut headers, false);
        assert_eq!(
            fields(&headers),
            [
                ("forwarded", forwarded),
                ("host", "a.example:8443"),
                ("x-forwarded-for", address),
                ("x-forwarded-host", "a.example:8443"),
                ("x-forwarded-proto", "https"),
            ]
        );
    }
}

#[test]
fn only_websockets_are_upgrades() {
    for (sent, wanted) in [
        (&[("upgrade", "websocket"), ("connection", "Upgrade")][..], true),
        (&[("upgrade", "WebSocket"), ("connection", "keep-alive, upgrade")], true),
        (&[("upgrade", "websocket")], false),
        (&[("connection", "upgrade")], false),
        (&[("upgrade", "h2c"), ("connection", "upgrade")], false),
        (&[("upgrade", "websocket, h2c"), ("connection", "upgrade")], false),
    ] {
        assert_eq!(wants_websocket(&map(sent)), wanted, "{sent:?}");
    }
}

#[test]
fn detached_values_keep_no_buffer() {
    let buffer = bytes::Bytes::from(vec![b'x'; 8192]);
    let mut value = HeaderValue::from_maybe_shared(buffer.slice(..3)).unwrap();
    value.set_sensitive(true);
    let mut headers = HeaderMap::from_iter([(COOKIE, value)]);
    headers.append(COOKIE, HeaderValue::from_maybe_shared(buffer.slice(..2)).unwrap());
    assert!(!buffer.is_unique());
    detach(&mut headers);
    assert!(buffer.is_unique());
    let values: Vec<_> =
        headers.get_all(COOKIE).iter().map(|value| (value.as_bytes(), value.is_sensitive())).collect();
    assert_eq!(values, [(&b"xxx"[..], true), (b"xx", false)]);
}
