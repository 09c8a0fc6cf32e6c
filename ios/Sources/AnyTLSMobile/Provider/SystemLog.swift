import Foundation

#if canImport(os)
  import os
#endif

/// The system's log, for the few lines that are not the core's.
enum SystemLog {
  static func warn(_ line: String) {
    #if canImport(os)
      Logger(subsystem: "io.anytls.mobile", category: "extension").warning("\(line, privacy: .public)")
    #else
      FileHandle.standardError.write(Data("\(line)\n".utf8))
    #endif
  }
}
