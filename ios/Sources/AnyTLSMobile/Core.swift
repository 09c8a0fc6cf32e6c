@_exported import AnyTLSCore
