// Sets a key and reads it, whichever node leads: client HOST:PORT HOST:PORT HOST:PORT
//
// grpc-go finds the leader by the health service, and waits while there is none.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/health" // asks the nodes who leads
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	kv "raftkv/v1"
)

// Connects to all nodes, and uses the one that calls "leader" serving; while there is none, calls wait.
// Sending again is allowed only because each write below has a request id.
const serviceConfig = `{
	"loadBalancingConfig": [{"round_robin": {}}],
	"healthCheckConfig": {"serviceName": "leader"},
	"methodConfig": [{
		"name": [{"service": "raftkv.v1.Kv"}],
		"waitForReady": true,
		"retryPolicy": {
			"maxAttempts": 5,
			"initialBackoff": "0.05s",
			"maxBackoff": "1s",
			"backoffMultiplier": 2,
			"retryableStatusCodes": ["UNAVAILABLE", "UNKNOWN"]
		}
	}]
}`

const timeout = 30 * time.Second

// A node that hangs is noticed after 10 + 1 s.
var pings = keepalive.ClientParameters{Time: 10 * time.Second, Timeout: time.Second}

// Client carries out one operation at a time; for many at a time take many clients, or the stream.
type Client struct {
	stub                            kv.KvClient
	clientID, newestIndex, sequence uint64
}

// Connect opens a session. The nodes are the client addresses of all of them.
func Connect(nodes []string) (*Client, error) {
	addresses := make([]resolver.Address, len(nodes))
	for i, node := range nodes {
		addresses[i] = resolver.Address{Addr: node}
	}
	all := manual.NewBuilderWithScheme("raftkv")
	all.InitialState(resolver.State{Addresses: addresses})
	connection, err := grpc.Dial("raftkv:///nodes",
		grpc.WithResolvers(all), grpc.WithAuthority("raftkv"), grpc.WithInsecure(),
		grpc.WithKeepaliveParams(pings), grpc.WithDefaultServiceConfig(serviceConfig))
	if err != nil {
		return nil, err
	}
	stub := kv.NewKvClient(connection)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	session, err := stub.OpenSession(ctx, &kv.OpenSessionRequest{})
	if err != nil {
		return nil, err
	}
	return &Client{stub: stub, clientID: session.ClientId, newestIndex: session.SinceIndex}, nil
}

// Set writes a key. The trailer of a failed call tells what was done.
func (c *Client) Set(key, value string) (metadata.MD, error) {
	c.sequence++
	id := &kv.RequestId{ClientId: c.clientID, Sequence: c.sequence, SinceIndex: c.newestIndex}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var trailer metadata.MD
	request := &kv.SetRequest{Request: id, Key: key, Value: value}
	reply, err := c.stub.Set(ctx, request, grpc.Trailer(&trailer))
	if err == nil && reply.AppliedIndex > c.newestIndex {
		c.newestIndex = reply.AppliedIndex
	}
	return trailer, err
}

// Get reads a key; "" stands for one that does not exist, too.
func (c *Client) Get(key string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	reply, err := c.stub.Get(ctx, &kv.GetRequest{Key: key})
	if err != nil {
		return "", err
	}
	return reply.Value, nil
}

func fail(err error, done string) {
	fmt.Fprintf(os.Stderr, "%v (%s)\n", err, done)
	os.Exit(1)
}

func main() {
	client, err := Connect(os.Args[1:])
	if err != nil {
		fail(err, "nothing was done")
	}
	if trailer, err := client.Set("name1", "Jaggu"); err != nil {
		if reason := trailer.Get("raft-error-reason"); len(reason) > 0 {
			fail(err, reason[0]+": see ErrorReason in kv.proto")
		}
		fail(err, "the write may have been done")
	}
	value, err := client.Get("name1")
	if err != nil {
		fail(err, "a read")
	}
	fmt.Println(value)
}
