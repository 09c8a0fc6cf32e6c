import Foundation

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// What a descriptor stands for: numbers are used again, this is not while anybody holds it.
public struct FileIdentity: Sendable, Hashable {
  private let device: UInt64
  private let inode: UInt64

  public init(of fd: Int32) throws {
    var status = stat()
    guard fstat(fd, &status) == 0 else { throw SystemError(code: errno, call: "fstat") }
    device = UInt64(status.st_dev)
    inode = UInt64(status.st_ino)
  }

  /// The descriptors of this process that stand for it.
  public var holders: [Int32] { openDescriptors().filter { (try? FileIdentity(of: $0)) == self } }
}

public func openDescriptors() -> [Int32] { numbers(in: "/dev/fd") }

/// Empty where no system tells.
public func threads() -> [Int32] { numbers(in: "/proc/self/task") }

private func numbers(in folder: String) -> [Int32] {
  let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
  return names.compactMap { Int32($0) }
}
