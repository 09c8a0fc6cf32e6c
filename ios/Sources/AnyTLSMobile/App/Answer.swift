/// Hands `ask` where to put the answer, and waits for it. Of callbacks that come twice the first counts, and the
/// cancellation of the task ends the waiting for one that never comes.
///
/// The closures run where the caller does, so that they may use what belongs to its actor.
func awaitAnswer<T: Sendable>(
  isolation: isolated (any Actor)? = #isolation, _ ask: (@escaping @Sendable (T) -> Void) throws -> Void
) async throws -> T {
  let (answers, continuation) = AsyncStream.makeStream(of: T.self, bufferingPolicy: .bufferingOldest(1))
  try ask { continuation.yield($0) }
  for await answer in answers { return answer }
  throw CancellationError()
}
