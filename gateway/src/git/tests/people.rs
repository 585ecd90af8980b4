//! Who may push and fetch what.

use std::time::Duration;

use magrathea_core::people::{Grant, Role, Scope};

use super::forge::Forge;
use crate::db::tokens::{NewToken, TokenKind, insert_token};

const TWO: &str = "labels: {production: {branch: main}, staging: {branch: develop}}\n";

/// A token of the administrator's with these rights alone.
async fn limited(forge: &Forge, grants: impl FnOnce(magrathea_core::names::AppId) -> Vec<Grant>) -> String {
    let state = forge.world.state();
    let conn = state.db.conn().await.unwrap();
    let app = crate::db::apps::load_app(&conn, &"blog".parse().unwrap()).await.unwrap().unwrap();
    let token = crate::api::token::for_person().unwrap();
    let limits = grants(app.id);
    let row = NewToken {
        person: forge.world.test.admin.person,
        hash: &token.hash,
        name: "limited",
        kind: TokenKind::Token,
        limits: Some(&limits),
        key: None,
        days: None,
    };
    insert_token(&conn, &row).await.unwrap();
    token.text
}

#[tokio::test]
async fn a_developer_of_staging_does_not_move_production() {
    let forge = Forge::new().await;
    let clone = forge.clone().await;
    clone.commit(&[("index.php", "<?php"), ("magrathea.yml", TWO)]).await;
    clone.push(&["main"]).await.ok();
    let token = limited(&forge, |app| {
        vec![
            Grant { role: Role::Viewer, scope: Scope::App(app) },
            Grant { role: Role::Developer, scope: Scope::Label(app, "staging".parse().unwrap()) },
        ]
    })
    .await;
    clone.git(&["remote", "set-url", "magrathea", &forge.url(&token, "blog.git")]).await.ok();
    clone.commit(&[("index.php", "<?php echo 2;")]).await;
    clone.push(&["main:develop"]).await.ok();
    clone.push(&["main:feature"]).await.ok();
    let said = clone.push(&["main"]).await.refused();
    assert!(said.contains("you may not deploy or configure blog (production)"), "{said}");
    // Nor by a manifest in which main is nobody's.
    clone.commit(&[("magrathea.yml", "labels: {staging: {branch: develop}}\n")]).await;
    let said = clone.push(&["main"]).await.refused();
    assert!(said.contains("you may not deploy or configure blog (production)"), "{said}");
    clone.git(&["fetch", "magrathea"]).await.ok();
}

#[tokio::test]
async fn a_viewer_clones_and_does_not_push() {
    let forge = Forge::new().await;
    let token = limited(&forge, |app| vec![Grant { role: Role::Viewer, scope: Scope::App(app) }]).await;
    let clone = forge.clone_of(&token).await;
    clone.commit(&[("index.php", "<?php")]).await;
    clone.git(&["fetch", "magrathea"]).await.ok();
    let said = clone.push(&["main:feature"]).await.refused();
    assert!(said.contains("you may not deploy or configure the app blog"), "{said}");
}

#[tokio::test]
async fn what_one_may_not_see_answers_like_what_is_not_there() {
    let forge = Forge::new().await;
    let token = limited(&forge, |_| Vec::new()).await;
    let clone = forge.clone().await;
    let ask = async |token: &str, path: &str| {
        let said = clone.git(&["ls-remote", &forge.url(token, path)]).await.refused();
        said.replace("shop", "blog").replace(token, "")
    };
    let hidden = ask(&token, "blog.git").await;
    assert_eq!(hidden, ask(&forge.world.test.token, "shop.git").await);
    assert!(hidden.contains("there is no app blog"), "{hidden}");
    let wrong = ask("mag_wrong", "blog.git").await;
    assert!(wrong.contains("Authentication failed"), "{wrong}");
    assert_eq!(wrong, ask("mag_wrong", "shop.git").await);
}

#[tokio::test]
async fn tricks_in_paths_lead_nowhere() {
    let forge = Forge::new().await;
    let http = reqwest::Client::builder().danger_accept_invalid_certs(true).no_proxy().build().unwrap();
    let token = &forge.world.test.token;
    for (path, status) in [
        ("..%2f..%2fetc.git/info/refs?service=git-upload-pack", 422),
        ("%2e%2e/info/refs?service=git-upload-pack", 404),
        ("blog.git%00/info/refs?service=git-upload-pack", 422),
        ("--help/info/refs?service=git-upload-pack", 422),
        ("blog.git/HEAD", 405),
        ("blog.git/objects/info/packs", 404),
        ("blog.git/info/refs", 400),
        ("blog.git/info/refs?service=git-upload-archive", 400),
        ("blog.git/info/refs?service=git-upload-pack", 200),
        ("blog.git/info/lfs/objects/batch", 501),
    ] {
        let url = forge.url(token, path);
        let answer = http.get(&url).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path}");
    }
    let url = forge.url(token, "blog.git/git-receive-pack");
    let answer = http.post(&url).body("0000").send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 415);
    let kind = "application/x-git-receive-pack-request";
    for nonsense in ["", "0000", "zzzz", "ffff", "00000000PACK"] {
        let answer = http.post(&url).header("content-type", kind).body(nonsense).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{nonsense}");
        answer.bytes().await.unwrap();
    }
    assert_eq!(forge.flaws().await, "");
}

#[tokio::test]
async fn a_token_that_goes_ends_its_push() {
    let mut forge = Forge::new().await;
    forge.world.held().hang = Some(("Build".into(), crate::engine::tests::world::Hang::Before));
    let token = limited(&forge, |app| vec![Grant { role: Role::Developer, scope: Scope::App(app) }]).await;
    let clone = forge.clone_of(&token).await;
    clone.commit(&[("index.php", "<?php")]).await;
    let state = forge.world.state().clone();
    let begun = std::time::Instant::now();
    let revoke = async {
        tokio::time::timeout(Duration::from_secs(30), forge.world.reached.notified())
            .await
            .expect("it begins to build");
        let conn = state.db.conn().await.unwrap();
        conn.execute("DELETE FROM tokens WHERE label = 'limited'", &[]).await.unwrap();
        let ended = state.doors.look(&state).await.unwrap();
        assert_eq!(ended, ["push of blog by admin"]);
        begun.elapsed()
    };
    let (pushed, revoked) = tokio::join!(clone.push(&["main"]), revoke);
    assert!(begun.elapsed() - revoked < Duration::from_secs(2));
    let said = pushed.refused();
    assert!(said.contains("access was taken away"), "{said}");
    assert_eq!(forge.reference("refs/heads/main").await, None);
    forge.restart().await;
}
