//! The commands `setup` and `check`: on a terminal, without one, and with brokers that are announced by multicast DNS.

use std::{
    fs,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use liveobject_test_support::{Mosquitto, Service, wait_until};
use mdns_sd::{ServiceDaemon, ServiceInfo};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, Command},
};

use crate::helpers::{PASSWORD, TIMEOUT, broker_with_login, run, service, stop, text};

const BINARY: &str = env!("CARGO_BIN_EXE_liveobject");
const CONFIG: &str = "/api/v1/integrations/mqtt/config";

fn service_that_tries(port: u16) -> liveobject_test_support::ServiceBuilder {
    service().config(&format!("[mqtt]\ncandidates = [\"127.0.0.1:{port}\"]\n"))
}

/// A command on a terminal.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<String>>,
    read: usize,
}

impl Terminal {
    fn start(service: &Service) -> Self {
        Self::start_and_then(service, "setup", "")
    }

    /// Runs other commands on the same terminal after a command of the program.
    fn start_and_then(service: &Service, command: &str, then: &str) -> Self {
        let config = service.data_dir().with_file_name("config.toml");
        // `script` gives the command a terminal of its own, and types what it reads.
        let mut child = Command::new("script")
            .args(["-qefc", &format!("{BINARY} {command} --config {}{then}", text(&config)), "/dev/null"])
            .env("LIVEOBJECT__DATA_DIR", service.data_dir())
            .env("LIVEOBJECT__HTTP__BIND", format!("127.0.0.1:{}", service.port()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("script is installed");
        let screen = Arc::new(Mutex::new(String::new()));
        let (mut output, written) = (child.stdout.take().expect("the output is a pipe"), Arc::clone(&screen));
        #[expect(clippy::disallowed_methods, reason = "it ends with the command")]
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer).await {
                written
                    .lock()
                    .expect("no holder panics")
                    .push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        let keys = child.stdin.take().expect("the input is a pipe");
        Self { child, keys, screen, read: 0 }
    }

    fn screen(&self) -> String {
        self.screen.lock().expect("no holder panics").clone()
    }

    /// Waits until the terminal shows this after what was waited for before, and returns what is in between.
    async fn wait_for(&mut self, expected: &str) -> String {
        let read = self.read;
        let is_shown = async || self.screen()[read..].contains(expected);
        wait_until(&format!("{expected:?} is shown"), TIMEOUT, is_shown).await;
        let screen = self.screen();
        let at = screen[read..].find(expected).expect("it is shown");
        self.read = read + at + expected.len();
        screen[read..read + at].to_owned()
    }

    async fn enter(&mut self, line: &str) {
        self.keys.write_all(format!("{line}\n").as_bytes()).await.expect("the command reads");
    }

    /// Returns the process of the command, below those of `script` and its shell.
    fn pid(&self) -> u32 {
        let mut pid = self.child.id().expect("it runs");
        while fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| program != Path::new(BINARY)) {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("it runs");
            pid = children.split_whitespace().next().expect("a child").parse().expect("a process id");
        }
        pid
    }

    async fn exit_code(&mut self) -> i32 {
        let ended = tokio::time::timeout(TIMEOUT, self.child.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("{}", self.screen()));
        ended.expect("the command can be awaited").code().expect("an exit code")
    }
}

/// Returns the number of the broker with this port in the list on the terminal.
fn number(list: &str, port: u16) -> String {
    let address = format!("  127.0.0.1:{port}: ");
    let line = list.lines().find(|line| line.contains(&address));
    let line = line.unwrap_or_else(|| panic!("{address} is missing in: {list}"));
    line.split_whitespace().next().expect("a number").to_owned()
}

/// Chooses the broker that the configuration names, enters a wrong password and then the right one.
async fn choose_and_log_in(terminal: &mut Terminal, broker: &Mosquitto) {
    let list = terminal.wait_for("Number or address").await;
    assert!(list.contains("Requires a user name and a password"), "{list}");
    terminal.enter("99").await;
    terminal.wait_for("There is no broker with the number 99").await;
    terminal.wait_for("quits): ").await;
    terminal.enter(&number(&list, broker.port())).await;
    for password in ["not the password", PASSWORD] {
        terminal.wait_for("User name").await;
        terminal.enter("ann").await;
        terminal.wait_for("Password (not shown): ").await;
        terminal.enter(password).await;
        if password != PASSWORD {
            terminal.wait_for("Failed: ").await;
            terminal.wait_for("quit (q)? ").await;
            terminal.enter("").await;
        }
    }
    terminal.wait_for("OK: ").await;
}

#[tokio::test]
async fn setup_on_a_terminal_connects_the_running_service() {
    let broker = broker_with_login().await;
    let service = service_that_tries(broker.port()).start().await;
    let _ = service.put_config(&json!({ "topic_prefix": "cams" })).await.expect(200);
    let mut terminal = Terminal::start(&service);
    choose_and_log_in(&mut terminal, &broker).await;
    terminal.wait_for("Saved. The service connects now.").await;
    terminal.wait_for("Next: ").await;
    assert_eq!(terminal.exit_code().await, 0, "{}", terminal.screen());
    let config = service.get(CONFIG).await.expect(200);
    assert_eq!(config["broker_port"], broker.port());
    assert_eq!((&config["has_password"], &config["topic_prefix"]), (&json!(true), &json!("cams")));
    service.wait_connected(TIMEOUT).await;
    let screen = terminal.screen();
    assert!(!screen.contains(PASSWORD) && !screen.contains("not the password"), "{screen}");
}

#[tokio::test]
async fn setup_without_a_running_service_saves_what_the_next_start_uses() {
    let broker = broker_with_login().await;
    let mut service = service_that_tries(broker.port()).start().await;
    stop(&mut service).await;
    let mut terminal = Terminal::start(&service);
    choose_and_log_in(&mut terminal, &broker).await;
    terminal.wait_for("Saved. Start the service to connect").await;
    assert_eq!(terminal.exit_code().await, 0, "{}", terminal.screen());
    service.start().await;
    service.wait_connected(TIMEOUT).await;
}

#[tokio::test]
async fn setup_that_is_ended_changes_nothing_and_shows_typed_text_again() {
    let broker = broker_with_login().await;
    let service = service_that_tries(broker.port()).start().await;
    let mut terminal = Terminal::start(&service);
    terminal.wait_for("quits): ").await;
    terminal.enter(&format!("127.0.0.1:{}", broker.port())).await;
    terminal.wait_for("User name").await;
    terminal.enter("ann").await;
    terminal.wait_for("Password (not shown): ").await;
    // Ctrl-C.
    terminal.keys.write_all(b"secret\x03").await.unwrap();
    terminal.wait_for("Nothing was changed.").await;
    assert_eq!(terminal.exit_code().await, 1, "{}", terminal.screen());
    assert!(!terminal.screen().contains("secret"), "{}", terminal.screen());
    assert_eq!(service.get(CONFIG).await.expect(200)["broker_host"], "");

    let mut terminal = Terminal::start(&service);
    terminal.wait_for("quits): ").await;
    terminal.enter("q").await;
    terminal.wait_for("Nothing was changed.").await;
    assert_eq!(terminal.exit_code().await, 1, "{}", terminal.screen());
}

#[tokio::test]
async fn a_signal_at_the_password_ends_setup_and_shows_typed_text_again() {
    let broker = broker_with_login().await;
    let service = service_that_tries(broker.port()).start().await;
    for signal in ["TERM", "HUP", "INT", "QUIT"] {
        let mut terminal = Terminal::start_and_then(&service, "setup", "; echo \"code $?\"; stty -a");
        terminal.wait_for("quits): ").await;
        terminal.enter(&format!("127.0.0.1:{}", broker.port())).await;
        terminal.wait_for("User name").await;
        terminal.enter("ann").await;
        terminal.wait_for("Password (not shown): ").await;
        let pid = terminal.pid().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status().await.unwrap();
        assert!(sent.success());
        terminal.wait_for(&format!("ended by SIG{signal}")).await;
        terminal.wait_for("code 1").await;
        let modes = terminal.wait_for("echoctl").await;
        assert!(
            modes.contains(" echo ") && modes.contains(" icanon ") && !modes.contains("-isig"),
            "{modes}"
        );
        assert_eq!(terminal.exit_code().await, 0, "{}", terminal.screen());
    }
}

#[tokio::test]
async fn setup_without_a_terminal_only_prints_what_it_finds() {
    let broker = broker_with_login().await;
    let open = Mosquitto::start().await;
    let (port, open_port) = (broker.port(), open.port());
    let config = format!("[mqtt]\ncandidates = [\"127.0.0.1:{port}\", \"127.0.0.1:{open_port}\"]\n");
    // It needs no data.
    let service = service().config(&config).build();
    let printed = run(&service, &["setup"], 0).await;
    assert!(printed.contains(&format!("127.0.0.1:{port}: Requires a user name")), "{printed}");
    let found: Value = serde_json::from_str(&run(&service, &["setup", "--json"], 0).await).expect("JSON");
    let candidates = found["candidates"].as_array().unwrap();
    let with_port = |port: u16| candidates.iter().find(|candidate| candidate["broker_port"] == port).unwrap();
    assert_eq!(with_port(port)["state"], "login_required");
    assert_eq!(with_port(open_port)["state"], "accepted");
    let login = with_port(open_port)["stages"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&login["name"], &login["ok"]), (&json!("login"), &json!(true)));
    assert!(!service.data_dir().exists());
}

#[tokio::test]
async fn the_search_publishes_nothing_and_subscribes_to_nothing() {
    let broker = Mosquitto::builder().log_packets().start().await;
    let service = service_that_tries(broker.port()).build();
    let printed = run(&service, &["setup"], 0).await;
    assert!(printed.contains("Accepts clients without a user name"), "{printed}");
    let log = broker.log();
    assert!(log.contains("CONNACK"), "{log}");
    for packet in ["Received PUBLISH", "Received SUBSCRIBE", "Will message", " u'"] {
        assert!(!log.contains(packet), "{packet}: {log}");
    }
}

#[tokio::test]
async fn check_on_a_terminal_shows_the_stage_that_takes_long() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let broker = format!("broker_host = \"127.0.0.1\"\nbroker_port = {port}\nconnect_timeout_seconds = 3\n");
    let mut service = service().config(&format!("[mqtt]\nenabled = false\n{broker}")).start().await;
    stop(&mut service).await;
    let mut terminal = Terminal::start_and_then(&service, "check", "");
    terminal.wait_for("...    login").await;
    let rest = terminal.wait_for("Failed: ").await;
    assert!(rest.contains("FAILED") && rest.contains("login"), "{rest}");
    assert_eq!(terminal.exit_code().await, 1);
}

#[tokio::test]
async fn settings_that_the_configuration_manages_cannot_be_set_up() {
    let mut service = service().config("[mqtt]\nmanaged = true\n").start().await;
    let mut terminal = Terminal::start(&service);
    terminal.wait_for("managed by the configuration").await;
    assert_eq!(terminal.exit_code().await, 1);
    stop(&mut service).await;
}

#[tokio::test]
async fn setup_on_a_terminal_without_data_reports_where_it_looked_and_creates_nothing() {
    let service = service().config("").build();
    let mut terminal = Terminal::start(&service);
    terminal.wait_for("there is no data of a liveobject service in").await;
    assert_eq!(terminal.exit_code().await, 1);
    assert!(!service.data_dir().exists());
}

/// Set in the process that announces a broker.
const ANNOUNCE: &str = "LIVEOBJECT_TEST_ANNOUNCE";

/// Not a test of its own: announces a broker, in the process that the next test starts.
#[test]
fn announces_a_broker_in_another_process() {
    let Some(seconds) = std::env::var_os(ANNOUNCE) else { return };
    let seconds = seconds.to_str().unwrap().parse().unwrap();
    let daemon = ServiceDaemon::new().unwrap();
    for (kind, name, host, addresses, port) in [
        ("_mqtt._tcp.local.", "Mosquitto \u{1b}[31m", "ha.local.", "192.168.77.2", 1884),
        ("_home-assistant._tcp.local.", "Home", "ha.local.", "192.168.77.2", 8123),
        ("_mqtt._tcp.local.", "Loopback", "loopback.local.", "127.0.0.1", 1),
        // A stranger that also announces the broker's address.
        ("_mqtt._tcp.local.", "Stranger", "stranger.local.", "192.168.77.1,192.168.77.2", 1884),
    ] {
        let service = ServiceInfo::new(kind, name, host, addresses, port, None).unwrap();
        daemon.register(service).unwrap();
    }
    std::thread::sleep(Duration::from_secs(seconds));
}

/// Runs in a network of its own, in which another machine has the addresses of the broker and of a stranger. `$1` is
/// the directory, `$2` the program, `$3` the test binary.
const SEARCH: &str = r#"
    set -e
    unshare --net sleep 120 &
    other=$!
    ip link set lo up
    ip link add name net0 type veth peer name net1
    ip addr add 192.168.77.3/24 dev net0
    ip link set net0 up multicast on
    until [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do sleep 0.05; done
    ip link set net1 netns "$other"
    there() { nsenter --net="/proc/$other/ns/net" "$@"; }
    there ip link set lo up
    there ip addr add 192.168.77.1/24 dev net1
    there ip addr add 192.168.77.2/24 dev net1
    there ip link set net1 up multicast on
    there mosquitto -c "$1/mosquitto.conf" >"$1/mosquitto.log" 2>&1 &
    there env LIVEOBJECT_TEST_ANNOUNCE=60 "$3" --exact setup::announces_a_broker_in_another_process \
        >"$1/announce.log" 2>&1 &
    for _ in 1 2 3 4 5 6 7 8; do
        "$2" setup --json >"$1/found.json"
        if [ "$(grep -c '"announced"' "$1/found.json")" = 2 ]; then break; fi
    done
    # Within a second, the announcing machine does not repeat its response.
    "$2" setup --json >"$1/again.json"
    kill %1 %2 %3
"#;

#[tokio::test]
async fn a_broker_that_is_announced_by_multicast_dns_is_found() {
    let unshare = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command
            // All processes end with the first one.
            .args(["--map-root-user", "--net", "--pid", "--mount-proc", "--fork", "--kill-child"])
            .args(arguments)
            .kill_on_drop(true);
        command
    };
    let can_run = unshare(&["ip", "link", "add", "name", "net0", "type", "veth", "peer", "name", "net1"])
        .stdout(Stdio::null())
        .status()
        .await
        .is_ok_and(|status| status.success());
    if !can_run {
        println!("skipped: this system does not allow a network of its own (unshare, ip)");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let config = "user root\nlistener 1884 192.168.77.1\nlistener 1884 192.168.77.2\nallow_anonymous false\n";
    fs::write(dir.path().join("mosquitto.conf"), config).unwrap();
    let test = std::env::current_exe().unwrap();
    let mut search = unshare(&["bash", "-c", SEARCH, "search", text(dir.path()), BINARY, text(&test)]);
    let search = search.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap()));
    let status = search.current_dir(dir.path()).status().await.unwrap();
    let file = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    assert!(status.success(), "{status}: {} {}", file("mosquitto.log"), file("announce.log"));
    assert!(file("again.json").contains("\"announced\""), "{}", file("again.json"));
    let found: Value = serde_json::from_str(&file("found.json")).expect("JSON");
    let mut candidates = found["candidates"].as_array().unwrap().clone();
    candidates.sort_by_key(|candidate| candidate["broker_host"].to_string());
    let [stranger, broker] = candidates.as_slice() else { panic!("{found}") };
    assert_eq!((&broker["broker_host"], &broker["broker_port"]), (&json!("192.168.77.2"), &json!(1884)));
    assert_eq!((&broker["state"], &broker["found_by"]), (&json!("login_required"), &json!(["announced"])));
    assert_eq!(broker["names"], json!(["Mosquitto [31m", "192.168.77.2:1884"]));
    assert_eq!(stranger["names"], json!(["Stranger", "192.168.77.1:1884"]));
}
