//! `curl` as somebody would use it who has td's credentials. Each answer is held against the OpenAPI document.

use std::path::{Path, PathBuf};
use std::process::Command;

use magrathea_tests::{Lab, run};
use serde_json::{Value, json};

/// A person with the credentials.
pub struct Curl {
    pub folder: tempfile::TempDir,
    pub gateway: String,
    document: Value,
}

/// An answer of the API's.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// The code of an error that has the documented shape.
    #[track_caller]
    pub fn code(&self) -> (u16, String) {
        (self.status, self.json()["code"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned())
    }
}

impl Curl {
    pub fn new(lab: &Lab) -> Curl {
        let credentials: Value =
            serde_json::from_str(&std::fs::read_to_string(lab.home.join("td/credentials.json")).unwrap()).unwrap();
        let text = |key: &str| credentials[key].as_str().unwrap().to_owned();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), text("ca")).unwrap();
        // In a file, so that `ps` does not show it.
        std::fs::write(folder.path().join("token"), format!("Authorization: Bearer {}\n", text("token"))).unwrap();
        let mut curl = Curl { folder, gateway: text("gateway"), document: Value::Null };
        curl.document = curl.bare("GET", "/v1/openapi.json", &[]).json();
        curl
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A request without credentials.
    pub fn bare(&self, method: &str, path: &str, args: &[&str]) -> Answer {
        let mut command = Command::new("curl");
        command.args(["-sS", "--path-as-is", "--noproxy", "*", "-m", "120", "-w", "\n%{http_code}", "-X", method]);
        let ended =
            run(command.arg("--cacert").arg(self.file("ca.pem")).args(args).arg(format!("{}{path}", self.gateway)));
        let ended = ended.ok();
        let (body, status) = ended.stdout.rsplit_once('\n').unwrap();
        Answer { status: status.parse().unwrap(), body: body.to_owned() }
    }

    /// A request with the token. The answer must be what the document promises for this operation.
    #[track_caller]
    pub fn call(&self, method: &str, path: &str, args: &[&str]) -> Answer {
        let token = format!("@{}", self.file("token").display());
        let answer = self.bare(method, path, &[&["-H", &token], args].concat());
        self.check(method, path, &answer);
        answer
    }

    pub fn get(&self, path: &str) -> Value {
        let answer = self.call("GET", path, &[]);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    pub fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.call(method, path, &["-H", "Content-Type: application/json", "-d", &body.to_string()])
    }

    /// Sends a folder as a source, packed by `tar` and `zstd`.
    pub fn upload(&self, path: &str, folder: &Path) -> Answer {
        let archive = self.file("source.tar.zst");
        run(Command::new("tar").args(["-I", "zstd", "-cf"]).arg(&archive).arg("-C").arg(folder).arg(".")).ok();
        self.call(
            "POST",
            path,
            &["-H", "Content-Type: application/zstd", "--data-binary", &format!("@{}", archive.display())],
        )
    }

    /// Holds an answer against the document.
    #[track_caller]
    fn check(&self, method: &str, path: &str, answer: &Answer) {
        let path = path.split('?').next().unwrap();
        let operation = self.operations().into_iter().find(|(m, template, _)| m == method && fits(template, path));
        let (.., operation) = operation.unwrap_or_else(|| panic!("{method} {path} is not in the document"));
        if answer.status >= 400 && path != "/healthz" {
            return self.validate(&json!({"$ref": "#/components/schemas/ErrorBody"}), &answer.json());
        }
        let promised = &operation["responses"][answer.status.to_string()];
        assert!(promised.is_object(), "{method} {path}: {} is not documented", answer.status);
        let Some(content) = promised["content"].as_object() else {
            return assert_eq!(answer.body, "", "{method} {path}: a body that is not documented");
        };
        match content.get("application/json") {
            Some(json) => self.validate(&json["schema"], &answer.json()),
            None => answer.body.lines().filter(|line| !line.trim().is_empty()).for_each(|line| {
                let event = serde_json::from_str(line).unwrap();
                self.validate(&json!({"$ref": "#/components/schemas/DeployEvent"}), &event);
            }),
        }
    }

    #[track_caller]
    pub fn validate(&self, schema: &Value, value: &Value) {
        let mut schema = schema.clone();
        schema["components"] = self.document["components"].clone();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<_> = validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{errors:?} in {value}");
    }

    /// Every operation of the document: method, path, description.
    pub fn operations(&self) -> Vec<(String, String, Value)> {
        let paths = self.document["paths"].as_object().unwrap();
        let all = paths.iter().flat_map(|(path, item)| {
            let item = item.as_object().unwrap();
            item.iter().map(move |(method, operation)| (method.to_uppercase(), path.clone(), operation.clone()))
        });
        all.collect()
    }
}

/// Whether a path is one of a template's, as `/v1/apps/blog` is of `/v1/apps/{app}`.
fn fits(template: &str, path: &str) -> bool {
    let (a, b): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.starts_with('{') || *a == b)
}
