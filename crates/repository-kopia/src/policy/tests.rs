use codec::compress::Algorithm;
use repository::Identity;

use super::{CompressionChoice, Policy, PolicyJson, effective, labels_of_identity_chain, parent};
use crate::json;
use crate::retention::Retention;

fn read(text: &str) -> PolicyJson {
    serde_json::from_str(text).unwrap()
}

fn write(policy: &PolicyJson) -> String {
    String::from_utf8(json::to_vec(policy)).unwrap()
}

/// The members that tests of merging look at.
#[track_caller]
fn check(documents: &[&str], section: &str, expected: &str) {
    let documents: Vec<PolicyJson> = documents.iter().map(|text| read(text)).collect();
    let merged: serde_json::Value = serde_json::from_str(&write(&effective(&documents))).unwrap();
    assert_eq!(merged[section], serde_json::from_str::<serde_json::Value>(expected).unwrap());
}

/// Source: Kopia format, "Policies", "Defaults".
#[test]
fn defaults_have_kopias_bytes() {
    let stored = "{\"retention\":{\"keepLatest\":10,\"keepHourly\":48,\"keepDaily\":7,\"keepWeekly\":4,\"keepMonthly\":24,\"keepAnnual\":3,\"ignoreIdenticalSnapshots\":false},\"files\":{\"ignoreDotFiles\":[\".kopiaignore\"]},\"errorHandling\":{\"ignoreFileErrors\":false,\"ignoreDirectoryErrors\":false,\"ignoreUnknownTypes\":true},\"scheduling\":{\"runMissed\":true},\"compression\":{\"compressorName\":\"none\"},\"metadataCompression\":{\"compressorName\":\"zstd-fastest\"},\"splitter\":{},\"actions\":{},\"osSnapshots\":{\"volumeShadowCopy\":{\"enable\":0}},\"logging\":{\"directories\":{\"snapshotted\":5,\"ignored\":5},\"entries\":{\"snapshotted\":0,\"ignored\":5,\"cacheHit\":0,\"cacheMiss\":0}},\"upload\":{\"maxParallelSnapshots\":1,\"parallelUploadAboveSize\":2147483648}}";
    assert_eq!(write(&PolicyJson::defaults()), stored);
    assert_eq!(read(stored), PolicyJson::defaults());
    assert_eq!(effective(&[]), PolicyJson::defaults());
}

#[test]
fn every_member_and_every_unknown_one_survives_rewriting() {
    let empty = "{\"retention\":{},\"files\":{},\"errorHandling\":{},\"scheduling\":{},\"compression\":{},\"metadataCompression\":{},\"splitter\":{},\"actions\":{},\"osSnapshots\":{\"volumeShadowCopy\":{}},\"logging\":{\"directories\":{},\"entries\":{}},\"upload\":{}}";
    assert_eq!(write(&read("{}")), empty);
    let nulls = "{\"retention\":null,\"files\":{\"ignore\":null,\"maxFileSize\":null,\"oneFileSystem\":null},\"logging\":{\"entries\":null},\"noParent\":null}";
    assert_eq!(write(&read(nulls)), empty);

    let full = "{\"retention\":{\"keepLatest\":0,\"keepNew\":1},\"files\":{\"ignore\":[\"a\"],\"noParentIgnore\":true,\"ignoreDotFiles\":[\"b\"],\"noParentDotFiles\":true,\"ignoreCacheDirs\":false,\"maxFileSize\":5,\"oneFileSystem\":true,\"x\":[]},\"errorHandling\":{\"ignoreFileErrors\":true,\"x\":{}},\"scheduling\":{\"intervalSeconds\":60,\"timeOfDay\":[{\"hour\":1,\"min\":2}],\"noParentTimeOfDay\":true,\"manual\":true,\"cron\":[\"0 * * * *\"],\"runMissed\":false,\"x\":1},\"compression\":{\"compressorName\":\"zstd\",\"onlyCompress\":[\".a\"],\"noParentOnlyCompress\":true,\"neverCompress\":[\".b\"],\"noParentNeverCompress\":true,\"minSize\":1,\"maxSize\":2,\"x\":1},\"metadataCompression\":{\"compressorName\":\"none\",\"x\":1},\"splitter\":{\"algorithm\":\"FIXED\",\"x\":1},\"actions\":{\"beforeFolder\":{\"path\":\"p\",\"args\":[\"q\"],\"timeout\":3,\"mode\":\"async\",\"x\":1},\"afterFolder\":{\"script\":\"s\"},\"beforeSnapshotRoot\":{},\"afterSnapshotRoot\":{},\"x\":1},\"osSnapshots\":{\"volumeShadowCopy\":{\"enable\":2,\"x\":1},\"x\":1},\"logging\":{\"directories\":{\"ignored\":1,\"x\":1},\"entries\":{\"cacheHit\":9,\"x\":1},\"x\":1},\"upload\":{\"maxParallelFileReads\":4,\"x\":1},\"noParent\":true,\"future\":{\"a\":[1,null]}}";
    assert_eq!(write(&read(full)), full);
}

/// Source: Kopia format, "Effective policy of a source".
#[test]
fn the_more_specific_policy_wins() {
    let path = "{\"retention\":{\"keepLatest\":0},\"files\":{\"ignore\":[\"a\"],\"maxFileSize\":7}}";
    let global = "{\"retention\":{\"keepLatest\":5,\"keepDaily\":9},\"files\":{\"ignore\":[\"b\",\"c\"],\"ignoreDotFiles\":[\".x\"]}}";
    let retention = "{\"keepLatest\":0,\"keepDaily\":9,\"keepHourly\":48,\"keepWeekly\":4,\"keepMonthly\":24,\"keepAnnual\":3,\"ignoreIdenticalSnapshots\":false}";
    check(&[path, global], "retention", retention);
    check(&[path, global], "files", "{\"ignore\":[\"a\"],\"ignoreDotFiles\":[\".x\"],\"maxFileSize\":7}");
}

#[test]
fn a_policy_without_parents_goes_without_defaults() {
    let path = "{\"retention\":{\"keepLatest\":1},\"noParent\":true,\"x\":1}";
    let documents = [read(path), read("{\"files\":{\"ignore\":[\"b\"]}}")];
    assert_eq!(effective(&documents), read("{\"retention\":{\"keepLatest\":1}}"));
}

#[test]
fn lists_are_joined_until_a_policy_forbids_it() {
    let list = |extensions: &str, closed: bool| {
        format!("{{\"compression\":{{\"neverCompress\":[{extensions}],\"noParentNeverCompress\":{closed}}}}}")
    };
    let (first, second, third) = (list("\".z\",\".b\"", false), list("\".a\"", true), list("\".c\"", false));
    let joined =
        "{\"compressorName\":\"none\",\"neverCompress\":[\".a\",\".b\",\".z\"],\"noParentNeverCompress\":true}";
    check(&[&first, &second, &third], "compression", joined);

    let late = "{\"scheduling\":{\"timeOfDay\":[{\"hour\":5,\"min\":0},{\"hour\":2,\"min\":30}]}}";
    let early = "{\"scheduling\":{\"timeOfDay\":[{\"hour\":2,\"min\":5},{\"hour\":5,\"min\":0}],\"manual\":true}}";
    let times = "{\"timeOfDay\":[{\"hour\":2,\"min\":5},{\"hour\":2,\"min\":30},{\"hour\":5,\"min\":0}],\"manual\":true,\"runMissed\":true}";
    check(&[late, early], "scheduling", times);
}

#[test]
fn folder_actions_are_not_inherited() {
    let path = "{\"actions\":{\"beforeFolder\":{\"path\":\"mine\"}}}";
    let global = "{\"actions\":{\"afterFolder\":{\"path\":\"x\"},\"afterSnapshotRoot\":{\"path\":\"y\"}}}";
    let merged = "{\"beforeFolder\":{\"path\":\"mine\"},\"afterSnapshotRoot\":{\"path\":\"y\"}}";
    check(&[path, global], "actions", merged);
}

#[test]
fn the_chain_ends_with_everyone() {
    let identity = Identity { user: "u".to_owned(), host: "h".to_owned(), path: "/a/b".to_owned() };
    let chain: Vec<String> = labels_of_identity_chain(&identity)
        .iter()
        .map(|labels| labels.iter().map(|(key, value)| format!("{key}={value} ")).collect())
        .collect();
    assert_eq!(
        chain,
        [
            "hostname=h path=/a/b policyType=path type=policy username=u ",
            "hostname=h path=/a policyType=path type=policy username=u ",
            "hostname=h path=/ policyType=path type=policy username=u ",
            "hostname=h policyType=user type=policy username=u ",
            "hostname=h policyType=host type=policy ",
            "policyType=global type=policy ",
        ]
    );
}

#[test]
fn parents_are_found_by_either_slash() {
    let chain = |path: &'static str| std::iter::successors(Some(path), |path| parent(path)).collect::<Vec<_>>();
    assert_eq!(chain("C:\\a\\b"), ["C:\\a\\b", "C:\\a", "C:\\"]);
    assert_eq!(chain("/"), ["/"]);
    assert_eq!(chain("a/b"), ["a/b", "a"]);
    assert_eq!(chain("\\\\nas\\x"), ["\\\\nas\\x", "\\\\nas", "\\"]);
}

#[test]
fn what_is_unset_counts_as_in_a_policy_alone() {
    let policy = Policy::resolve(&PolicyJson::default()).unwrap();
    assert_eq!((policy.compression, policy.metadata_compression), (CompressionChoice::always(None), None));
    assert!(policy.files.ignore_cache_dirs && policy.errors.ignore_unknown_types);
    assert!(policy.files.ignore_dot_files.is_empty() && !policy.errors.ignore_file_errors);
    assert_eq!((policy.parallel_upload_above_bytes, policy.parallel_file_reads), (None, None));

    let policy = Policy::resolve(&PolicyJson::defaults()).unwrap();
    assert_eq!(policy.metadata_compression, Some(Algorithm::ZstdFastest));
    assert_eq!((policy.retention.keep_latest, policy.retention.keep_annual), (Some(10), Some(3)));
    assert_eq!((policy.splitter, policy.parallel_upload_above_bytes), (None, Some(1 << 31)));
}

#[test]
fn unknown_names_are_refused_or_passed_over() {
    let refused = |name: &str| {
        let document = read(&format!("{{\"compression\":{{\"compressorName\":\"{name}\"}}}}"));
        Policy::resolve(&document).unwrap_err().to_string()
    };
    assert_eq!(refused("brotli"), "compressor \"brotli\" is not supported");
    assert_eq!(refused("lz4"), "compressor \"lz4\" is not supported");
    assert_eq!(Policy::resolve(&read("{\"splitter\":{\"algorithm\":\"X\"}}")).unwrap().splitter, None);
}

/// Source: Kopia format, "Compression choice for a file".
#[test]
fn files_are_chosen_by_size_and_extension() {
    let choice = |text: &str| {
        let text = format!("{{\"compression\":{{\"compressorName\":\"zstd\",{text}}}}}");
        Policy::resolve(&read(&text)).unwrap().compression
    };
    let check = |choice: &CompressionChoice, name, size_bytes, expected: bool| {
        assert_eq!(choice.for_file(name, size_bytes).is_some(), expected, "{name}, {size_bytes} bytes");
    };
    let sizes = choice("\"minSize\":10,\"maxSize\":20");
    for (size_bytes, expected) in [(9, false), (10, true), (20, true), (21, false)] {
        check(&sizes, "a", size_bytes, expected);
    }
    let lists = choice("\"onlyCompress\":[\".txt\",\".zip\"],\"neverCompress\":[\"\",\".jpg\",\".zip\"]");
    for (name, expected) in
        [("a.txt", true), ("a.zip", true), ("a.tar.jpg", false), ("a.md", true), ("plain", false), (".jpg", false)]
    {
        check(&lists, name, 0, expected);
    }
    assert_eq!(CompressionChoice::always(Some(Algorithm::Zstd)).for_file("x", 0), Some(Algorithm::Zstd));
}

#[test]
fn retention_is_set_and_all_else_stays() {
    let document = read("{\"retention\":{\"keepHourly\":1,\"keepNew\":2},\"future\":3}");
    let retention = Retention { keep_daily: Some(7), ..Retention::default() };
    let expected = read("{\"retention\":{\"keepDaily\":7,\"keepNew\":2},\"future\":3}");
    assert_eq!(document.with_retention(&retention), expected);
}
