// swift-tools-version: 6.0
import PackageDescription

#if os(Linux)
  // The library of this machine, for the tests: scripts/test-swift says where it is.
  let core: Target = .systemLibrary(name: "AnyTLSCoreFFI")
  // What the package uses of Apple's frameworks, under their names.
  let frameworks: [Target] = ["NetworkExtension", "Network"].map { .target(name: $0, path: "StandIns/\($0)") }
  // Of the system that the stand-ins play.
  let tests: [Target] = [
    // What tests share: a server, a TUN without root, packets made by hand.
    .target(name: "TestSupport", dependencies: ["AnyTLSCore"], path: "Tests/Support"),
    .testTarget(name: "AnyTLSCoreTests", dependencies: ["AnyTLSCore", "TestSupport"]),
    .testTarget(name: "AnyTLSMobileTests", dependencies: ["AnyTLSMobile", "TestSupport"]),
    .testTarget(
      name: "SampleLogicTests",
      dependencies: ["SampleLogic", "TestSupport"],
      path: "Sample/LogicTests"
    ),
  ]
#else
  // Made by scripts/xcframework.
  let core: Target = .binaryTarget(name: "AnyTLSCoreFFI", path: "AnyTLSCoreFFI.xcframework")
  let frameworks: [Target] = []
  let tests: [Target] = []
#endif

let package = Package(
  name: "AnyTLSMobile",
  platforms: [.iOS(.v15), .macOS(.v12)],
  products: [
    .library(name: "AnyTLSMobile", targets: ["AnyTLSMobile"]),
    .library(name: "SampleLogic", targets: ["SampleLogic"]),
  ],
  targets: frameworks + [
    core,
    // Generated: scripts/bindings.
    .target(name: "AnyTLSCore", dependencies: ["AnyTLSCoreFFI"]),
    .target(
      name: "AnyTLSMobile",
      dependencies: ["AnyTLSCore"] + frameworks.map { .target(name: $0.name) },
      resources: [.copy("PrivacyInfo.xcprivacy")]
    ),
    .target(name: "SampleLogic", dependencies: ["AnyTLSMobile"], path: "Sample/Logic"),
  ] + tests,
  swiftLanguageModes: [.v6]
)
