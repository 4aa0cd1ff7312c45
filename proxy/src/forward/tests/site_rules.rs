//! What a site's own rules change: fields, routes, error pages.

use super::*;
use crate::http_policy::HttpPolicy;
use crate::routes::{Route, Routes};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: up\r\nX-Frame-Options: ALLOWALL\r\n\r\nhi";

fn policy(keys: &str) -> HttpPolicy {
    let text = format!("[[site]]\nhost = \"example.org\"\ncert = \"/c\"\nto = \"http://b\"\n{keys}");
    HttpPolicy::of(&Config::parse(&text).unwrap().sites[0]).unwrap()
}

#[test]
fn fields_are_changed_in_both_directions() {
    on_worker(async {
        let (upstream, seen) = answering(OK).await;
        let http = policy(
            "hsts = \"max-age=600\"\nadd-headers = [\"X-Frame-Options: DENY\"]\nremove-headers = [\"Server\"]\n\
             add-request-headers = [\"X-Env: live\", \"X-Real-IP: none\"]\nremove-request-headers = [\"Cookie\"]",
        );
        let proxy = Proxy::changed(upstream, |site| site.http = http);
        let answer = proxy
            .raw("GET / HTTP/1.1\r\nHost: example.org\r\nCookie: a\r\nX-Env: mine\r\nConnection: close\r\n\r\n")
            .await;
        assert!(answer.contains("strict-transport-security: max-age=600\r\n"), "{answer}");
        assert!(answer.contains("x-frame-options: DENY\r\n") && !answer.contains("ALLOWALL"), "{answer}");
        assert!(!answer.contains("server:"), "{answer}");
        let request = seen.last();
        assert!(request.contains("x-env: live\r\n") && request.contains("x-real-ip: none\r\n"), "{request}");
        assert!(!request.contains("cookie") && !request.contains("mine"), "{request}");
    });
}

#[test]
fn errors_of_the_proxy_have_the_sites_page_and_its_fields() {
    on_worker(async {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("502.html"), "<h1>later</h1>").unwrap();
        let http = policy(&format!(
            "hsts = \"max-age=600\"\nerror-pages = {:?}",
            directory.path().display().to_string()
        ));
        let (upstream, _) = answering("nonsense\r\n\r\n").await;
        let proxy = Proxy::changed(upstream, |site| site.http = http);
        let request = "GET / HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n";
        let answer = proxy.raw(request).await;
        assert!(
            answer.starts_with("HTTP/1.1 502 ") && answer.ends_with("\r\n\r\n<h1>later</h1>"),
            "{answer}"
        );
        assert!(answer.contains("content-type: text/html") && answer.contains("max-age=600"), "{answer}");
        let answer = proxy.raw(request.replace("GET", "HEAD")).await;
        assert!(answer.contains("content-length: 14\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    });
}

#[test]
fn a_route_has_an_upstream_of_its_own_and_what_can_be_read_twice_none() {
    on_worker(async {
        let (site, at_site) = answering(OK).await;
        let (api, at_api) = answering(OK).await;
        let route = Route {
            path: "/api".into(),
            upstream: Upstream::Http(ServerGroup::to(format!("http://{api}").parse().unwrap()).unwrap()),
            rewrite: Some("/".into()),
        };
        let proxy = Proxy::changed(site, |site| site.routes = Routes::new(vec![route]));
        let get =
            |path: &str| format!("GET {path} HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n");
        for (path, sent) in
            [("/api/x?y", "/x?y"), ("/a/%2e%2e/api", "/"), ("https://example.org/api/z", "/z")]
        {
            let answer = proxy.raw(get(path)).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            assert!(at_api.last().starts_with(&format!("GET {sent} HTTP/1.1\r\n")), "{}", at_api.last());
        }
        let mut client = proxy.http2::<Full<Bytes>>().await;
        let request = http::Request::get("https://example.org/api/h2").body(Full::default()).unwrap();
        assert_eq!(client.send_request(request).await.unwrap().status(), 200);
        assert!(at_api.last().starts_with("GET /h2 HTTP/1.1\r\nhost: example.org\r\n"), "{}", at_api.last());

        let answer = proxy.raw(get("/x/..%2fapi")).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert_eq!((at_site.count(), at_api.count()), (0, 4));
        proxy.raw(get("/apis")).await;
        assert!(at_site.last().starts_with("GET /apis HTTP/1.1\r\n"));
    });
}
