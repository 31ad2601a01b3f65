package tunemill.testengine;

import java.util.Collection;
import java.util.List;
import java.util.function.Predicate;
import java.util.function.Supplier;
import org.apache.lucene.analysis.cjk.CJKBigramFilter;
import org.apache.lucene.analysis.cjk.CJKWidthFilter;
import org.apache.lucene.analysis.miscellaneous.ASCIIFoldingFilter;
import org.apache.lucene.analysis.snowball.SnowballFilter;
import org.elasticsearch.Build;
import org.elasticsearch.client.internal.node.NodeClient;
import org.elasticsearch.cluster.node.DiscoveryNodes;
import org.elasticsearch.features.NodeFeature;
import org.elasticsearch.index.analysis.PreConfiguredTokenFilter;
import org.elasticsearch.plugins.ActionPlugin;
import org.elasticsearch.plugins.AnalysisPlugin;
import org.elasticsearch.plugins.Plugin;
import org.elasticsearch.rest.BaseRestHandler;
import org.elasticsearch.rest.RestHandler;
import org.elasticsearch.rest.RestRequest;
import org.elasticsearch.rest.RestResponse;
import org.elasticsearch.rest.RestStatus;

/**
 * What a full distribution has in modules that are not published as packages, and this project uses: four token filters,
 * made from the same Lucene classes under the same names, and {@code GET /}, by which clients know the product.
 */
public final class MissingParts extends Plugin implements AnalysisPlugin, ActionPlugin {
  @Override
  public List<PreConfiguredTokenFilter> getPreConfiguredTokenFilters() {
    return List.of(
        PreConfiguredTokenFilter.singleton("asciifolding", true, ASCIIFoldingFilter::new),
        PreConfiguredTokenFilter.singleton("snowball", false, in -> new SnowballFilter(in, "English")),
        PreConfiguredTokenFilter.singleton("cjk_width", true, CJKWidthFilter::new),
        PreConfiguredTokenFilter.singleton("cjk_bigram", false, CJKBigramFilter::new));
  }

  @Override
  public Collection<RestHandler> getRestHandlers(
      RestHandlersServices services, Supplier<DiscoveryNodes> nodes, Predicate<NodeFeature> features) {
    return List.of(new Greeting());
  }

  private static final class Greeting extends BaseRestHandler {
    @Override
    public String getName() {
      return "tunemill_test_engine_greeting";
    }

    @Override
    public List<Route> routes() {
      return List.of(new Route(RestRequest.Method.GET, "/"), new Route(RestRequest.Method.HEAD, "/"));
    }

    @Override
    protected RestChannelConsumer prepareRequest(RestRequest request, NodeClient client) {
      String body = """
          {"name": "test", "cluster_name": "test", "tagline": "You Know, for Search",
           "version": {"number": "%s", "build_flavor": "default"}}""".formatted(Build.current().version());
      return channel -> channel.sendResponse(new RestResponse(RestStatus.OK, "application/json", body));
    }
  }
}
