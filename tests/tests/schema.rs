//! The API under what schemathesis makes up from its own description: whatever is sent, nothing is a defect of the gateway's.

use std::process::Command;

use magrathea_tests::people::Organisation;
use magrathea_tests::{Lab, run};
use serde_json::Value;

/// Requests that are made up for each operation.
const EXAMPLES: &str = "25";

/// Operations by which somebody may take away themselves, or what they prove themselves with.
const OWN_END: [&str; 4] = [
    "DELETE /v1/people/{person}",
    "DELETE /v1/people/{person}/keys/{key}",
    "DELETE /v1/people/{person}/tokens/{id}",
    "DELETE /v1/grants/{id}",
];

#[test]
#[ignore = "needs the laboratory: make test"]
fn nothing_that_is_made_up_is_answered_with_a_defect() {
    let lab = Lab::get();
    let tools = lab.home.join("schemathesis");
    if !tools.join("bin/schemathesis").exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&tools)).ok();
        run(Command::new(tools.join("bin/pip")).args(["install", "--quiet", "schemathesis==4.32.5"])).ok();
    }
    let org = Organisation::new(&lab, "schema-org");
    // An administrator of their own organisation, and one of everything: the second must not shut the laboratory's doors.
    let own = org.person("schema-own", &["--role", "administrator"]);
    let all = org.person("schema-all", &["--role", "administrator"]);
    lab.td(&lab.home, &["grant", "add", "administrator", "schema-all", "--platform"]).ok();
    let credentials: Value =
        serde_json::from_str(&std::fs::read_to_string(lab.home.join("td/credentials.json")).unwrap()).unwrap();
    let gateway = credentials["gateway"].as_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), credentials["ca"].as_str().unwrap()).unwrap();
    // What takes away the one who asks comes last: nobody would be left to ask for the rest.
    let rest = OWN_END.map(|name| ["--exclude-name", name]).concat();
    let end = OWN_END.map(|name| ["--include-name", name]).concat();
    for (person, part) in [(&own, &rest), (&all, &rest), (&own, &end), (&all, &end)] {
        let mut command = Command::new(tools.join("bin/schemathesis"));
        command
            .current_dir(folder.path())
            .args(["run", &format!("{gateway}/v1/openapi.json"), "--checks", "not_a_server_error", "--no-color"])
            .args([
                "--max-examples",
                EXAMPLES,
                "--phases",
                "examples,coverage,fuzzing",
                "--seed",
                "42",
                "--workers",
                "2",
            ])
            .args(["--tls-verify", "ca.pem", "--request-timeout", "20"])
            .args(["--header", &format!("Authorization: Bearer {}", person.token())])
            // Ends the session that asks, and shuts doors.
            .args(["--exclude-path", "/v1/login", "--exclude-path", "/v1/doors/{door}"])
            // Websockets are not HTTP, streams do not end, and an archive is not made up.
            .args(["--exclude-path-regex", "/(shell|run|db|tunnel|sftp|events|logs|deploys|deploys/label|all|plan)$"])
            // Made-up tokens only meet the throttle.
            .args(["--generation-with-security-parameters", "false"]);
        let ended = run(command.args(part));
        assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
        let was_heard = !ended.stdout.contains("mostly returned 429");
        assert!(was_heard || *part == end, "the one who asks was locked out: {}", ended.stdout);
        println!("{}", ended.stdout.lines().rev().take(12).collect::<Vec<_>>().join("\n"));
    }
}
