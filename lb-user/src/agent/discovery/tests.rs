use super::*;

fn config(servers: &str) -> Config {
    let text = format!(
        "virtual_server 10.0.0.1 1935 {{\ndiscover {{\nfile {servers}\n}}\n\
         real_server_template {{\nweight 3\nTCP_CHECK {{\n}}\n}}\n\
         real_server 10.1.0.1 1935 {{\nTCP_CHECK {{\n}}\n}}\n}}\n"
    );
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("keepalived.conf");
    std::fs::write(&file, text).expect("it is written");
    lb_config::load(&file).expect("it is right").config
}

fn server(last: u8) -> DiscoveredServer {
    DiscoveredServer {
        address: [10, 1, 0, last].into(),
        port: None,
        weight: None,
    }
}

fn addresses(discovery: &Discovery, config: &Config) -> Vec<String> {
    let complete = discovery.complete(config);
    let servers = complete.virtual_server[0].servers();
    servers.map(|server| server.address.to_string()).collect()
}

#[tokio::test]
async fn a_source_that_fails_keeps_its_servers_and_so_does_a_restart() {
    let config = config("/does/not/exist");
    let mut discovery = Discovery::new(&Saved::default());
    discovery.follow(&config);
    let source = sources(&config.virtual_server[0]).next().expect("a source");
    let reading = |servers| Reading {
        source: source.clone(),
        servers,
    };
    let former = discovery.take(reading(Ok(vec![server(1), server(2)])));
    assert_eq!(former, Some(Vec::new()));
    // The file's own server counts once, with its own settings.
    let expected = ["10.1.0.1:1935", "10.1.0.2:1935"];
    assert_eq!(addresses(&discovery, &config), expected);
    let complete = discovery.complete(&config);
    let weights = complete.virtual_server[0].servers().map(|it| it.weight);
    assert_eq!(weights.collect::<Vec<_>>(), [None, Some(3)]);
    let same = discovery.take(reading(Ok(vec![server(1), server(2)])));
    assert_eq!(same, None);
    let failed = discovery.take(reading(Err("gone".to_owned())));
    assert_eq!(failed, None);
    assert_eq!(addresses(&discovery, &config), expected);
    let listed = discovery.listed();
    assert_eq!(listed[0].error.as_deref(), Some("gone"));
    assert_eq!((listed[0].servers, listed[0].age_s), (2, Some(0)));

    // A reload with another limit does not take them away until it is read again.
    let mut other = config.clone();
    other.virtual_server[0].discover[0].max_servers = Some(9);
    assert_eq!(addresses(&discovery, &other), expected);
    discovery.follow(&other);
    assert_eq!(addresses(&discovery, &other), expected);
    discovery.follow(&config);

    let mut saved = Saved::default();
    discovery.save(&mut saved);
    let mut later = Discovery::new(&saved);
    later.follow(&config);
    assert_eq!(addresses(&later, &config), expected);
    assert_eq!(later.listed()[0].age_s, None);
}

#[tokio::test]
async fn servers_that_cannot_be_are_taken_back() {
    let config = config("/does/not/exist");
    let mut discovery = Discovery::new(&Saved::default());
    discovery.follow(&config);
    let source = sources(&config.virtual_server[0]).next().expect("a source");
    let servers = Ok(vec![server(7)]);
    let former = discovery.take(Reading {
        source: source.clone(),
        servers,
    });
    discovery.refuse(&source, former.expect("others"), "too many".to_owned());
    assert_eq!(addresses(&discovery, &config), ["10.1.0.1:1935"]);
    assert_eq!(discovery.listed()[0].error.as_deref(), Some("too many"));
}

#[tokio::test]
async fn servers_of_a_group_have_its_port_and_family() {
    let text = "virtual_server_group g {\n10.0.0.1 1935\n10.0.0.2 1935\n}\n\
                virtual_server group g {\ndiscover {\nfile /does/not/exist\n}\n\
                real_server_template {\nTCP_CHECK {\n}\n}\n}\n";
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("keepalived.conf");
    std::fs::write(&file, text).expect("it is written");
    let config = lb_config::load(&file).expect("it is right").config;
    let mut discovery = Discovery::new(&Saved::default());
    discovery.follow(&config);
    let source = sources(&config.virtual_server[0]).next().expect("a source");
    let v6 = DiscoveredServer {
        address: "fd00::1".parse().expect("an address"),
        ..server(1)
    };
    discovery.take(Reading {
        source,
        servers: Ok(vec![server(1), v6]),
    });
    assert_eq!(addresses(&discovery, &config), ["10.1.0.1:1935"]);
}
