//! What pushes and clones come to.

use std::time::Duration;

use super::forge::Forge;

const TWO: &str = "labels: {production: {branch: main}, staging: {branch: develop}}\n";

#[tokio::test]
async fn a_push_of_main_deploys_and_is_accepted() {
    let forge = Forge::new().await;
    let clone = forge.clone().await;
    let first = clone.commit(&[("index.php", "<?php echo 1;")]).await;
    let said = clone.push(&["main"]).await.ok();
    assert!(said.contains("=====> v1 of blog, label default on local"), "{said}");
    assert!(said.contains("-----> build"), "{said}");
    assert_eq!(forge.world.held().serving, Some(1));
    assert_eq!(forge.reference("refs/heads/main").await, Some(first));
    let second = clone.commit(&[("index.php", "<?php echo 2;")]).await;
    clone.push(&["main"]).await.ok();
    assert_eq!(forge.world.held().serving, Some(2));
    assert_eq!(forge.reference("refs/heads/main").await, Some(second));
    let timeline = forge.world.timeline().await;
    for action in ["admin push.opened", "admin deploy.succeeded", "admin push.closed"] {
        assert!(timeline.iter().any(|line| line == action), "{action}: {timeline:?}");
    }
    assert_eq!(forge.flaws().await, "");
}

#[tokio::test]
async fn a_failed_build_refuses_the_push() {
    let forge = Forge::new().await;
    let clone = forge.clone().await;
    clone.commit(&[("index.php", "<?php echo 1;")]).await;
    forge.world.held().fail.insert("Build".into());
    let said = clone.push(&["main"]).await.refused();
    assert!(said.contains("error: build: "), "{said}");
    assert!(said.contains("last words"), "{said}");
    assert!(said.contains("! [remote rejected] main -> main (pre-receive hook declined)"), "{said}");
    assert_eq!(forge.reference("refs/heads/main").await, None);
    assert_eq!(forge.flaws().await, "", "nothing of a refused push is kept");
    clone.push(&["main"]).await.ok();
    assert_eq!(forge.world.held().serving, Some(1));
}

#[tokio::test]
async fn other_branches_and_tags_are_stored_and_explained() {
    let forge = Forge::new().await;
    let clone = forge.clone().await;
    let commit = clone.commit(&[("index.php", "<?php"), ("magrathea.yml", TWO)]).await;
    clone.push(&["main:first"]).await.ok();
    let said = clone.push(&["main:feature"]).await.ok();
    let explained =
        "feature is stored and not deployed: in magrathea.yml production follows main, staging follows develop";
    assert!(said.contains(explained), "{said}");
    clone.git(&["tag", "-m", "a tag", "v1"]).await.ok();
    let said = clone.push(&["v1"]).await.ok();
    assert!(said.contains("the tag v1 is stored; tags deploy nothing"), "{said}");
    assert!(forge.world.held().images.is_empty());
    let said = clone.push(&["main:refs/for/review"]).await.refused();
    assert!(said.contains("refs/for/review is neither a branch nor a tag"), "{said}");

    // Of what is there already, only the reference moves.
    let said = clone.push(&["main:develop"]).await.ok();
    assert!(said.contains("label staging on local"), "{said}");
    assert_eq!(forge.reference("refs/heads/develop").await, Some(commit));
    let said = clone.push(&[":feature"]).await.ok();
    assert!(said.contains("the branch feature is gone"), "{said}");
    let said = clone.push(&[":develop"]).await.ok();
    assert!(said.contains("the branch develop is gone; staging serves on"), "{said}");
    clone.push(&[":v1"]).await.ok();
}

#[tokio::test]
async fn one_push_deploys_one_branch() {
    let forge = Forge::new().await;
    let clone = forge.clone().await;
    clone.commit(&[("index.php", "<?php"), ("magrathea.yml", TWO)]).await;
    let said = clone.push(&["main", "main:develop"]).await.refused();
    assert!(said.contains("this push would deploy several branches: "), "{said}");
    assert!(forge.world.held().images.is_empty());
    let said = clone.push(&["main", "main:feature"]).await.ok();
    assert!(said.contains("feature is stored"), "{said}");
    assert!(said.contains("label production on local"), "{said}");
}

#[tokio::test]
async fn several_labels_of_a_branch_are_deployed_one_after_another() {
    let forge = Forge::new().await;
    let clone = forge.clone().await;
    let manifest =
        "labels: {a: {branch: main, routing: {domains: [a.test]}}, b: {branch: main, routing: {domains: [b.test]}}}\n";
    clone.commit(&[("index.php", "<?php"), ("magrathea.yml", manifest)]).await;
    let said = clone.push(&["main"]).await.ok();
    assert!(said.contains("label a on local") && said.contains("label b on local"), "{said}");
    assert!(said.find("label a").unwrap() < said.find("label b").unwrap());
}

#[tokio::test]
async fn a_mistake_in_the_manifest_refuses_with_its_place() {
    let forge = Forge::new().await;
    let clone = forge.clone().await;
    clone.commit(&[("index.php", "<?php"), ("magrathea.yml", "app_layer: {replicsa: 2}\n")]).await;
    let said = clone.push(&["main"]).await.refused();
    assert!(said.contains("magrathea.yml:1:13") && said.contains("replicas"), "{said}");
    let said = clone.push(&["main:feature"]).await.ok();
    assert!(said.contains("feature is stored; its magrathea.yml has mistakes"), "{said}");
}

#[tokio::test]
async fn a_branch_is_rewritten_only_by_force() {
    let forge = Forge::new().await;
    let clone = forge.clone().await;
    let first = clone.commit(&[("index.php", "<?php echo 1;")]).await;
    clone.commit(&[("index.php", "<?php echo 2;")]).await;
    clone.push(&["main"]).await.ok();
    clone.git(&["reset", "--quiet", "--hard", "HEAD~1"]).await.ok();
    assert!(clone.push(&["main"]).await.refused().contains("non-fast-forward"));
    let said = clone.push(&["--force", "main"]).await.ok();
    assert!(said.contains("main is rewritten: "), "{said}");
    assert_eq!(forge.reference("refs/heads/main").await, Some(first));
    assert_eq!(forge.world.held().serving, Some(2));
    let said = clone.push(&[":main"]).await.refused();
    assert!(said.contains("main is the branch that a clone checks out"), "{said}");
    // A name that another branch's is a folder of.
    clone.push(&["main:a/b"]).await.ok();
    let said = clone.push(&["main:a"]).await.refused();
    assert!(!said.is_empty());
}

#[tokio::test]
async fn clones_see_what_was_pushed() {
    let forge = Forge::new().await;
    let url = forge.url(&forge.world.test.token, "blog.git");
    let clone = forge.clone().await;
    let said = clone.git(&["clone", &url, "clones/empty"]).await.ok();
    assert!(said.contains("empty repository"), "{said}");
    clone.git(&["checkout", "--quiet", "-b", "trunk"]).await.ok();
    let commit = clone.commit(&[("index.php", "<?php")]).await;
    let said = clone.push(&["trunk"]).await.ok();
    assert!(said.contains("the label default follows main or master until magrathea.yml says `branch:`"), "{said}");
    for (n, url) in [forge.url(&forge.world.test.token, "blog"), url.clone()].iter().enumerate() {
        let name = format!("clones/full{n}");
        clone.git(&["clone", "--quiet", url, &name]).await.ok();
        let head = clone.git(&["-C", &name, "rev-parse", "HEAD"]).await.ok();
        assert_eq!(head.trim(), commit);
    }
    let more = clone.commit(&[("more.php", "<?php")]).await;
    clone.push(&["trunk"]).await.ok();
    for version in ["0", "1", "2"] {
        let protocol = format!("protocol.version={version}");
        clone.git(&["-c", &protocol, "-C", "clones/full0", "fetch", "--quiet", "origin"]).await.ok();
        let head = clone.git(&["-C", "clones/full0", "rev-parse", "origin/trunk"]).await.ok();
        assert_eq!(head.trim(), more);
        clone
            .git(&["-c", &protocol, "clone", "--quiet", "--depth=1", &url, &format!("clones/shallow{version}")])
            .await
            .ok();
    }
}

#[tokio::test]
async fn shallow_clients_may_push() {
    let forge = Forge::new().await;
    let full = forge.clone().await;
    for n in 0..3 {
        full.commit(&[("index.php", &format!("<?php echo {n};"))]).await;
    }
    let origin = format!("file://{}", full.path().display());
    full.git(&["clone", "--quiet", "--depth=1", &origin, "clones/shallow"]).await.ok();
    let url = forge.url(&forge.world.test.token, "blog.git");
    full.git(&["-C", "clones/shallow", "push", &url, "main"]).await.ok();
    assert_eq!(forge.world.held().serving, Some(1));
    // The whole history may follow.
    full.commit(&[("index.php", "<?php echo 3;")]).await;
    full.push(&["main"]).await.ok();
    assert_eq!(forge.world.held().serving, Some(2));
    full.git(&["clone", "--quiet", &url, "clones/again"]).await.ok();
}

#[tokio::test]
async fn what_a_release_will_lack_is_told() {
    let forge = Forge::new().await;
    let clone = forge.clone().await;
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    let files =
        [("index.php", "<?php"), (".gitattributes", "*.png filter=lfs\n"), ("a/b.png", pointer), ("c.txt", pointer)];
    let commit = clone.commit(&files).await;
    clone.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},vendor/lib")]).await.ok();
    clone.git(&["commit", "--quiet", "--message", "a submodule"]).await.ok();
    let said = clone.push(&["main"]).await.ok();
    assert!(said.contains("!     submodules are not fetched, their folders stay empty: vendor/lib"), "{said}");
    assert!(said.contains("visitors get the pointers in their place: a/b.png, c.txt"), "{said}");
    assert_eq!(forge.world.held().serving, Some(1));
}

#[tokio::test]
async fn requests_of_a_window_s_size_do_not_stand_still() {
    let forge = Forge::new().await;
    let clone = forge.clone().await;
    // Those of a little more than a mebibyte did, when the gateway spoke HTTP/2: what came last was never sent.
    for kib in [1023, 1024, 1025, 2048] {
        let mut content = vec![0; kib << 10];
        aws_lc_rs::rand::fill(&mut content).unwrap();
        std::fs::write(clone.path().join("large"), content).unwrap();
        clone.commit(&[]).await;
        let topic = format!("main:t{kib}");
        let arguments = ["--force", &topic];
        let push = clone.push(&arguments);
        tokio::time::timeout(Duration::from_secs(20), push).await.expect("it stands still").ok();
    }
    // What git asks before a large request is no push.
    let told = forge.outcomes().await;
    assert!(told.iter().all(|outcome| outcome.contains("refs/heads/t")), "{told:?}");
}

#[tokio::test]
async fn large_requests_are_packed_by_git() {
    let forge = Forge::new().await;
    let clone = forge.clone().await;
    // More than git sends at once (http.postBuffer), so that it asks first and then streams.
    let large: String = (0..400_000_u32).map(|n| format!("{:08x}", n.wrapping_mul(2_654_435_761))).collect();
    clone.commit(&[("index.php", "<?php"), ("large.txt", &large)]).await;
    clone.push(&["main:feature"]).await.ok();
    // So many branches that a fetch names more than a kilobyte of them, which git sends compressed.
    for n in 0..60 {
        clone.commit(&[("n", &n.to_string())]).await;
        clone.git(&["branch", &format!("b{n}")]).await.ok();
    }
    let said = clone.push(&["--all"]).await.ok();
    assert!(said.contains("and 40 more"), "{said}");
    let url = forge.url(&forge.world.test.token, "blog.git");
    clone.git(&["-c", "protocol.version=0", "clone", "--quiet", "--no-single-branch", &url, "clones/all"]).await.ok();
    let count = clone.git(&["-C", "clones/all", "for-each-ref", "--format=x", "refs/remotes"]).await.ok();
    assert!(count.lines().count() > 60, "{count}");
}

#[tokio::test]
async fn a_branch_of_a_pattern_has_a_preview_until_it_is_deleted() {
    let forge = Forge::new().await;
    let clone = forge.clone().await;
    let manifest = "labels: {production: {branch: main}, \"preview/*\": {}}\n";
    clone.commit(&[("index.php", "<?php echo 1;"), ("magrathea.yml", manifest)]).await;
    clone.push(&["main"]).await.ok();
    let said = clone.push(&["main:preview/Login"]).await.ok();
    assert!(said.contains("=====> v1 of blog, label preview-login on local"), "{said}");
    let said = clone.push(&["main:preview/login"]).await.refused();
    assert!(said.contains("belongs to the branch preview/Login"), "{said}");
    // A deploy that holds it keeps it; the branch stays as well.
    forge.world.held().fail.insert("Remove routing/route".into());
    let said = clone.push(&[":preview/Login"]).await.refused();
    assert!(said.contains("destroying the preview preview-login with its data"), "{said}");
    assert!(forge.reference("refs/heads/preview/Login").await.is_some());
    let said = clone.push(&[":preview/Login"]).await.ok();
    assert!(said.contains("-----> destroying the preview preview-login with its data"), "{said}");
    assert!(said.contains("the branch preview/Login is gone"), "{said}");
    assert_eq!(forge.reference("refs/heads/preview/Login").await, None);
    let timeline = forge.world.timeline().await;
    assert_eq!(timeline.iter().filter(|line| *line == "admin instance.destroyed").count(), 1, "{timeline:?}");
    // What is no preview outlives its branch.
    clone.push(&["main:other"]).await.ok();
    clone.push(&[":other"]).await.ok();
    assert_eq!(timeline.iter().filter(|line| line.ends_with("instance.destroyed")).count(), 1);
}
