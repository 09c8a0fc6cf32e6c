package io.anytls.mobile.testing

import org.junit.rules.ExternalResource

/** A [TestServer] from before the first test of a class until after the last: for `@ClassRule`. */
class ServerRule : ExternalResource() {
    private lateinit var server: TestServer

    val uri: String get() = server.uri

    fun uri(host: String): String = server.uri(host)

    override fun before() {
        server = TestServer()
    }

    override fun after() = server.close()
}
