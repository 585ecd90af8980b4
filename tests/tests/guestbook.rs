//! The example app, as its visitors meet it: every layer in the way of a request.

use magrathea_tests::Lab;

const HOST: &str = "guestbook.localhost";

/// A PNG of one pixel.
const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\0\0\0\rIDATx\x9cc\xf8\xcf\xc0\xf0\x1f\0\x05\0\x01\xff\x89\x99=\x1d\0\0\0\0IEND\xaeB`\x82";

fn header<'a>(answer: &'a reqwest::Response, name: &str) -> &'a str {
    answer.headers().get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn a_page_is_cached_and_a_signed_visitor_goes_past_the_cache() {
    let lab = Lab::get();
    let stranger = lab.client();
    let page = format!("/?unique={}", std::process::id());
    let first = stranger.get(lab.url(HOST, &page)).send().await.unwrap();
    assert_eq!((first.status().as_u16(), header(&first, "x-cache")), (200, "MISS"));
    let second = stranger.get(lab.url(HOST, &page)).send().await.unwrap();
    assert_eq!(header(&second, "x-cache"), "HIT");
    assert!(second.headers().keys().all(|name| !name.as_str().starts_with("x-magrathea")), "{:?}", second.headers());
    assert_eq!(first.text().await.unwrap(), second.text().await.unwrap());
    let signed = stranger.get(lab.url(HOST, &page)).header("Cookie", "guest=1").send().await.unwrap();
    assert_eq!(header(&signed, "x-cache"), "BYPASS");
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn an_entry_with_a_picture_outlives_a_redeploy() {
    let lab = Lab::get();
    let client = lab.client();
    let words = format!("Don't panic, {}", std::process::id());
    let part = reqwest::multipart::Part::bytes(PICTURE).file_name("pixel.png").mime_str("image/png").unwrap();
    let form =
        reqwest::multipart::Form::new().text("name", "Ford").text("message", words.clone()).part("picture", part);
    let signed = client.post(lab.url(HOST, "/")).multipart(form).send().await.unwrap();
    assert_eq!(signed.status().as_u16(), 303, "{}", signed.text().await.unwrap());

    let example = lab.repository.join("examples/guestbook");
    lab.td(&example, &["app", "deploy", "--dirty"]).ok();

    let page = client.get(lab.url(HOST, "/")).header("Cookie", "guest=1").send().await.unwrap().text().await.unwrap();
    let entry =
        page.split("<article>").find(|entry| entry.contains(&words.replace('\'', "&#039;"))).expect("the entry");
    let picture = entry.split("/uploads/").nth(1).and_then(|rest| rest.split('"').next()).expect("its picture");
    let fetched = client.get(lab.url(HOST, &format!("/uploads/{picture}"))).send().await.unwrap();
    assert_eq!(fetched.bytes().await.unwrap(), PICTURE);
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn the_visitors_address_is_the_connections_own() {
    let lab = Lab::get();
    let answer = lab
        .client()
        .get(lab.url(HOST, "/"))
        .header("Cookie", "guest=1")
        .header("X-Forwarded-For", "203.0.113.9")
        .header("X-Real-IP", "203.0.113.9")
        .header("Forwarded", "for=203.0.113.9")
        .send()
        .await
        .unwrap();
    let page = answer.text().await.unwrap();
    assert!(page.contains("for you at 127.0.0.1"), "{page}");
}

#[tokio::test]
#[ignore = "needs the laboratory: make test"]
async fn what_is_not_the_visitors_is_not_served() {
    let lab = Lab::get();
    let client = lab.client();
    for path in ["/magrathea.yml", "/../magrathea.yml", "/lib/guestbook.php", "/.git/config", "/.htaccess", "/uploads/"]
    {
        let answer = client.get(lab.url(HOST, path)).header("Cookie", "guest=1").send().await.unwrap();
        assert!(matches!(answer.status().as_u16(), 403 | 404), "{path}: {}", answer.status());
    }
    let unknown = client.get(lab.url("nobody.localhost", "/")).send().await.unwrap();
    assert_eq!(unknown.status().as_u16(), 404);
}
