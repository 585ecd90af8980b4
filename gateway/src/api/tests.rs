//! The API through a running server.

use magrathea_core::api::{
    AppInfo, CertificateInfo, ConfigEntry, Enrolled, ErrorBody, NodeToken, Status, TimelineEntry,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::db::{apps, instances};
use crate::testing::{self, Gateway};

async fn error(response: reqwest::Response) -> (u16, String) {
    let (status, id) = (response.status().as_u16(), response.headers().get("x-request-id").cloned());
    let text = response.text().await.unwrap();
    let body: ErrorBody = serde_json::from_str(&text).unwrap_or_else(|_| panic!("not an error: {status} {text}"));
    assert_eq!(id.unwrap().to_str().unwrap(), body.request);
    (status, body.code)
}

async fn put_json(gateway: &Gateway, path: &str, body: Value) -> reqwest::Response {
    gateway.request("PUT", path).json(&body).send().await.unwrap()
}

async fn create(gateway: &Gateway, name: &str) -> reqwest::Response {
    gateway.request("POST", "/v1/apps").json(&json!({"name": name})).send().await.unwrap()
}

/// Every operation of the OpenAPI document, with its parameters filled in.
fn operations() -> Vec<(Method, String)> {
    let document = serde_json::to_value(super::openapi()).unwrap();
    let mut out = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path
            .replace("{id}", "01930000-0000-7000-8000-000000000000")
            .replace("{cluster}", "local")
            .replace("{node}", "node1");
        let path = path.split('/').map(|part| if part.starts_with('{') { "blog" } else { part });
        let path = path.collect::<Vec<_>>().join("/");
        for method in ["get", "post", "put", "delete"].iter().filter(|m| item.get(**m).is_some()) {
            out.push((method.to_uppercase().parse().unwrap(), path.clone()));
        }
    }
    assert!(out.len() > 25);
    out
}

#[tokio::test]
async fn everything_that_is_documented_is_routed_and_wants_a_token() {
    let gateway = testing::gateway().await;
    for (method, path) in operations() {
        let url = format!("{}{path}", gateway.url);
        let response = gateway.http.request(method.clone(), &url).send().await.unwrap();
        match path.as_str() {
            "/healthz" => assert_eq!(response.status(), 200),
            "/v1/authority" => assert_eq!(response.status(), 200),
            "/v1/enrol" | "/v1/join" | "/v1/login/challenge" => {
                assert_eq!(error(response).await.1, "media_type_unsupported");
            }
            "/v1/login" if method == Method::POST => {
                assert_eq!(error(response).await.1, "media_type_unsupported");
            }
            _ => {
                let (status, code) = error(response).await;
                // After the first twenty failures the address is slowed.
                assert!(matches!(status, 401 | 429), "{method} {path}: {status} {code}");
            }
        }
        let response = gateway.request(method.as_str(), &path).send().await.unwrap();
        if response.status().is_client_error() {
            let (_, code) = error(response).await;
            assert!(!["route_not_found", "method_not_allowed", "unauthenticated"].contains(&code.as_str()), "{path}");
        }
    }
    let document: Value =
        gateway.http.get(format!("{}/v1/openapi.json", gateway.url)).send().await.unwrap().json().await.unwrap();
    assert_eq!(document["info"]["title"], "Magrathea");
}

#[tokio::test]
async fn wrong_tokens_are_refused_and_slowed_but_the_right_one_never_is() {
    let gateway = testing::gateway().await;
    let url = format!("{}/v1/whoami", gateway.url);
    for header in ["", "Bearer", "Bearer ", "Bearer wrong", "Basic YTpi", "bearer mag_00"] {
        let response = gateway.http.get(&url).header("authorization", header).send().await.unwrap();
        assert_eq!(response.headers()["www-authenticate"], "Bearer", "{header}");
        assert_eq!(error(response).await, (401, "unauthenticated".into()), "{header}");
    }
    for _ in 0..20 {
        gateway.http.get(&url).send().await.unwrap();
    }
    let response = gateway.http.get(&url).send().await.unwrap();
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(error(response).await, (429, "too_many_attempts".into()));
    let me: Value = gateway.request("GET", "/v1/whoami").send().await.unwrap().json().await.unwrap();
    assert_eq!(me["name"], "admin");
}

#[tokio::test]
async fn wrong_requests_have_documented_shapes() {
    let gateway = testing::gateway().await;
    create(&gateway, "blog").await;
    let big = "x".repeat(2 << 20);
    for (method, path, body, status, code) in [
        ("GET", "/v2/apps", None, 404, "route_not_found"),
        ("PATCH", "/v1/apps", None, 405, "method_not_allowed"),
        ("GET", "/v1/apps/absent", None, 404, "app_not_found"),
        ("GET", "/v1/apps/No_Name", None, 422, "name_invalid"),
        ("GET", "/v1/apps/..%2fetc", None, 422, "name_invalid"),
        ("GET", "/v1/deploys/nonsense", None, 422, "name_invalid"),
        ("GET", "/v1/clusters/absent", None, 404, "cluster_not_found"),
        ("POST", "/v1/clusters/local/nodes/absent/token", None, 404, "node_not_found"),
        ("GET", "/v1/timeline?limit=0", None, 400, "query_invalid"),
        ("GET", "/v1/timeline?unknown=1", None, 400, "query_invalid"),
        ("GET", "/v1/apps/blog/instances/absent", None, 404, "instance_not_found"),
        ("POST", "/v1/apps", Some(r#"{"name":"a","more":1}"#), 422, "body_invalid"),
        ("POST", "/v1/apps", Some(r#"{"name":"#), 422, "body_invalid"),
        ("POST", "/v1/apps", Some(r#"{"name":"A b"}"#), 422, "name_invalid"),
        ("POST", "/v1/apps", Some(r#"{"name":"blog"}"#), 409, "name_taken"),
        ("POST", "/v1/apps", Some(big.as_str()), 413, "body_too_large"),
        ("POST", "/v1/apps/blog/deploys", Some("{}"), 415, "media_type_unsupported"),
        ("DELETE", "/v1/apps/blog", None, 409, "confirmation_mismatch"),
        ("DELETE", "/v1/apps/blog?confirm=other", None, 409, "confirmation_mismatch"),
        ("DELETE", "/v1/apps/blog/config/ABSENT", None, 404, "config_not_found"),
        ("PUT", "/v1/apps/blog/config/1=2", Some(r#"{"value":"v"}"#), 422, "name_invalid"),
        ("PUT", "/v1/apps/absent/config/KEY", Some(r#"{"value":"v"}"#), 404, "app_not_found"),
        ("GET", "/v1/certificates/absent", None, 404, "certificate_not_found"),
        ("PUT", "/v1/certificates/a", Some(r#"{"chain":"","key":""}"#), 422, "certificate_invalid"),
        ("POST", "/v1/enrol", Some(r#"{"token":"wrong","csr":""}"#), 401, "enrol_token_invalid"),
    ] {
        let mut request = gateway.request(method, path);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_owned());
        }
        let shown = format!("{method} {path}");
        assert_eq!(error(request.send().await.unwrap()).await, (status, code.to_owned()), "{shown}");
    }
}

#[tokio::test]
async fn what_destroys_names_every_protected_label() {
    let gateway = testing::gateway().await;
    create(&gateway, "blog").await;
    let conn = gateway.state().db.conn().await.unwrap();
    let app = apps::load_app(&conn, &"blog".parse().unwrap()).await.unwrap().unwrap();
    for label in ["production", "staging"] {
        let cluster = "local".parse().unwrap();
        instances::ensure_instance(&conn, app.id, &label.parse().unwrap(), &cluster).await.unwrap();
    }
    let listed: AppInfo = gateway.request("GET", "/v1/apps/blog").send().await.unwrap().json().await.unwrap();
    let protected: Vec<_> = listed.instances.iter().map(|one| (one.label.as_str(), one.protected)).collect();
    assert_eq!(protected, [("production", true), ("staging", false)]);
    let destroy = async |path: &str| gateway.request("DELETE", path).send().await.unwrap();
    for names in ["blog", "production", "blog,staging", "blog production", "blog,production2"] {
        let refused = destroy(&format!("/v1/apps/blog?confirm={names}")).await;
        assert_eq!(error(refused).await, (409, "confirmation_mismatch".to_owned()), "{names}");
    }
    let refused = destroy("/v1/apps/blog/instances/production?confirm=blog").await;
    assert_eq!(error(refused).await.1, "confirmation_mismatch");
    assert_eq!(destroy("/v1/apps/blog?confirm=blog,production").await.status(), 204);
}

#[tokio::test]
async fn curl_hears_why_its_large_body_is_refused() {
    let gateway = testing::gateway().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![b'x'; 8 << 20]).unwrap();
    let source = format!("@{}", file.path().display());
    for version in ["--http2", "--http1.1"] {
        for (path, kind, status) in [("apps", "application/json", "413"), ("apps/blog/deploys", "text/plain", "415")] {
            let mut curl = tokio::process::Command::new("curl");
            curl.args(["-sSk", "--noproxy", "*", version, "-w", "%{http_code}", "--data-binary", &source]);
            curl.args(["-H", &format!("Authorization: Bearer {}", gateway.inner.token)]);
            curl.args(["-H", &format!("Content-Type: {kind}")]).arg(format!("{}/v1/{path}", gateway.url));
            let said = curl.output().await.unwrap();
            let body = String::from_utf8_lossy(&said.stdout);
            assert!(body.starts_with('{') && body.ends_with(status), "{version} {path}: {said:?}");
        }
    }
}

#[tokio::test]
async fn an_app_is_made_listed_and_on_the_timeline() {
    let gateway = testing::gateway().await;
    let response = create(&gateway, "blog").await;
    assert_eq!(response.status(), 201);
    let app: AppInfo = response.json().await.unwrap();
    let list: Vec<AppInfo> = gateway.request("GET", "/v1/apps").send().await.unwrap().json().await.unwrap();
    assert_eq!(list, [app]);
    let lines: Vec<TimelineEntry> =
        gateway.request("GET", "/v1/timeline?app=blog").send().await.unwrap().json().await.unwrap();
    assert_eq!((lines[0].actor.as_str(), lines[0].action.as_str()), ("admin", "app.created"));
    let status: Status = gateway.request("GET", "/v1/status").send().await.unwrap().json().await.unwrap();
    assert_eq!(status.clusters[0].nodes[0].state, "new");
}

#[tokio::test]
async fn values_are_set_and_listed_but_never_told() {
    let gateway = testing::gateway().await;
    create(&gateway, "blog").await;
    let body = json!({"value": "hunter2", "label": "staging"});
    let response = put_json(&gateway, "/v1/apps/blog/config/SMTP_PASSWORD", body).await;
    assert_eq!(response.status(), 200);
    assert!(!response.text().await.unwrap().contains("hunter2"));
    let list = gateway.request("GET", "/v1/apps/blog/config").send().await.unwrap().text().await.unwrap();
    assert!(!list.contains("hunter2"));
    let list: Vec<ConfigEntry> = serde_json::from_str(&list).unwrap();
    assert_eq!((list[0].key.as_str(), list[0].label.as_deref()), ("SMTP_PASSWORD", Some("staging")));
    let path = "/v1/apps/blog/config/SMTP_PASSWORD?label=staging";
    assert_eq!(gateway.request("DELETE", path).send().await.unwrap().status(), 204);
    assert_eq!(error(gateway.request("DELETE", path).send().await.unwrap()).await.0, 404);
}

#[tokio::test]
async fn a_certificate_must_fit_its_key() {
    let gateway = testing::gateway().await;
    let make = || {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["Blog.example".to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let ((chain, key), (other, _)) = (make(), make());
    let response = put_json(&gateway, "/v1/certificates/blog", json!({"chain": other, "key": key})).await;
    assert_eq!(error(response).await, (422, "certificate_invalid".into()));
    let both = format!("{chain}{other}");
    let response = put_json(&gateway, "/v1/certificates/blog", json!({"chain": both, "key": key})).await;
    assert_eq!(error(response).await, (422, "certificate_invalid".into()));

    let noisy = format!("subject=blog\n{chain}");
    let response = put_json(&gateway, "/v1/certificates/blog", json!({"chain": noisy, "key": key})).await;
    let info: CertificateInfo = response.json().await.unwrap();
    assert_eq!(info.subjects, ["blog.example"]);
    let state = gateway.state();
    let conn = state.db.conn().await.unwrap();
    let pem = crate::db::certificates::load_certificate_pem(&conn, &state.seal, "blog").await.unwrap().unwrap();
    assert_eq!(pem.replace("\r\n", "\n"), format!("{chain}{key}").replace("\r\n", "\n"));
    assert_eq!(gateway.request("DELETE", "/v1/certificates/blog").send().await.unwrap().status(), 204);
}

#[tokio::test]
async fn a_node_enrols_once_with_its_token() {
    let gateway = testing::gateway().await;
    let made: NodeToken =
        gateway.request("POST", "/v1/clusters/local/nodes/node1/token").send().await.unwrap().json().await.unwrap();
    let url = format!("{}/v1/enrol", gateway.url);
    let enrol =
        async |csr: &str| gateway.http.post(&url).json(&json!({"token": made.token, "csr": csr})).send().await.unwrap();
    assert_eq!(error(enrol("nonsense").await).await, (422, "csr_invalid".into()), "the token is not used up");
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let enrolled: Enrolled = enrol(&csr).await.json().await.unwrap();
    assert_eq!((enrolled.cluster.as_str(), enrolled.node.as_str()), ("local", "node1"));
    assert_eq!(error(enrol(&csr).await).await, (401, "enrol_token_invalid".into()));
}

#[tokio::test]
async fn a_lost_database_is_told_apart_from_a_defect() {
    let gateway = testing::gateway().await;
    gateway.state().db.close();
    assert_eq!(error(create(&gateway, "blog").await).await, (503, "store_unavailable".into()));
    let health = gateway.http.get(format!("{}/healthz", gateway.url)).send().await.unwrap();
    assert_eq!(health.status(), 503);
}

#[tokio::test]
async fn the_end_of_the_gateway_lets_requests_finish() {
    let gateway = testing::gateway().await;
    create(&gateway, "blog").await;
    let state = gateway.state();
    state.shutdown.cancel();
    state.tasks.close();
    tokio::time::timeout(std::time::Duration::from_secs(5), state.tasks.wait()).await.unwrap();
    assert!(gateway.request("GET", "/healthz").send().await.is_err(), "nothing listens any more");
}
