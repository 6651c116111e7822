use super::*;

fn network(text: &str) -> Network {
    text.parse().expect("a network")
}

fn protection(file: &[&str]) -> Protection {
    let mut protection = Protection::new(false, &TableSizes::default());
    let denied = file.iter().map(|text| network(text)).collect();
    protection.replace_plan(&ProtectionPlan::new(&GlobalDefs::default(), denied));
    protection
}

#[test]
fn a_denial_ends_with_its_time_and_the_files_do_not() {
    let mut protection = protection(&["192.0.2.0/24"]);
    protection.deny(network("10.1.2.3/8"), Some(Duration::from_secs(60)));
    protection.deny(network("10.0.0.1"), None);
    assert_eq!(protection.denied.len(), 3);
    let later = |s| SystemTime::now() + Duration::from_secs(s);
    assert!(protection.drop_expired(later(50)).is_empty());
    assert_eq!(protection.drop_expired(later(61)).len(), 1);
    assert_eq!(protection.denied.len(), 2);
    assert!(protection.is_denied_by_order(network("10.0.0.1")));
    protection.allow(network("10.0.0.1"));
    assert!(!protection.is_denied_by_order(network("10.0.0.1")));
    assert!(!protection.is_denied_by_order(network("192.0.2.0/24")));
    assert!(protection.is_denied_by_file(network("192.0.2.7/24")));
    protection.deny(network("::ffff:10.0.0.0/120"), None);
    protection.allow(network("10.0.0.0/24"));
    assert_eq!(protection.denied.len(), 1, "it is the same network");
}

#[test]
fn orders_take_precedence_over_the_configuration_until_they_are_taken_back() {
    let mut protection = protection(&[]);
    let settings = GlobalDefs {
        lb_syn_validation: Some(SynValidation::Always),
        lb_connection_rate: Some(10),
        ..GlobalDefs::default()
    };
    protection.replace_plan(&ProtectionPlan::new(&settings, Vec::new()));
    let configured = protection.rate().expect("a limit");
    assert_eq!(
        (configured.per_second.get(), configured.burst.get()),
        (10, 10)
    );
    assert!(protection.validates());
    protection.order_rate(Some(RateOrder::Off));
    protection.order_validation(Some(SynValidation::Off));
    assert!(protection.rate().is_none() && !protection.validates());
    protection.order_rate(None);
    protection.order_validation(None);
    assert!(protection.rate() == Some(configured) && protection.validates());
}

#[test]
fn a_later_agent_takes_up_the_orders() {
    let mut protection = protection(&[]);
    protection.deny(network("10.0.0.0/8"), Some(Duration::from_secs(600)));
    protection.deny(network("2001:db8::/32"), None);
    protection.order_rate(Some(RateOrder::Off));
    protection.order_validation(Some(SynValidation::Automatic));
    let mut saved = Saved::default();
    protection.save(&mut saved);
    let mut later = Protection::new(true, &TableSizes::default());
    later.inherit(&saved, &ProtectionPlan::default(), &TableSizes::default());
    assert_eq!(later.denied, protection.denied);
    let mut again = Saved::default();
    later.save(&mut again);
    assert!(again.is_validating);
    again.is_validating = false;
    assert_eq!(again, saved);
    assert!(later.validates(), "the flood may go on");
}

#[test]
fn orders_that_do_not_fit_any_more_do_not_keep_an_agent_from_starting() {
    let mut former = protection(&[]);
    for text in ["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24", "2001:db8::/32"] {
        former.deny(network(text), None);
    }
    let mut saved = Saved::default();
    former.save(&mut saved);
    let sizes = TableSizes {
        denied: 2,
        ..TableSizes::default()
    };
    let file = vec![network("192.0.2.0/24")];
    let plan = ProtectionPlan::new(&GlobalDefs::default(), file);
    let mut later = Protection::new(false, &sizes);
    later.inherit(&saved, &plan, &sizes);
    later.admit(&plan, &sizes).expect("it fits");
    later.replace_plan(&plan);
    assert_eq!(later.denied.len(), 3, "two of IPv4 and one of IPv6");
}

#[test]
fn validation_that_a_flood_has_begun_goes_on_with_a_new_data_plane() {
    let flooded = Protection::new(true, &TableSizes::default());
    let mut saved = Saved::default();
    flooded.save(&mut saved);
    let mut later = Protection::new(false, &TableSizes::default());
    later.inherit(&saved, &ProtectionPlan::default(), &TableSizes::default());
    later.order_validation(Some(SynValidation::Automatic));
    assert!(later.validates());
}
