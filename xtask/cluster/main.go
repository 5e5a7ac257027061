// Command kube holds the upstream Kubernetes components, etcd and kubectl in one binary: they share most of
// their code, so one binary links once where seven would link seven times.
//
// The component is named by the first argument, or by the name of the file when that is a link ("kubectl").
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client-go's metrics on every /metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // kubernetes_build_info
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	args := os.Args
	if name := filepath.Base(args[0]); name == "kubectl" {
		args = append([]string{name}, args[1:]...)
	} else {
		args = args[1:]
	}
	if len(args) == 0 {
		fail("usage: kube COMPONENT [ARGUMENT...]")
	}

	var command *cobra.Command
	switch args[0] {
	case "etcd":
		etcdmain.Main(args)
		return
	case "pki":
		if len(args) != 3 {
			fail("usage: kube pki FOLDER ADDRESS")
		}
		if err := writePKI(args[1], args[2]); err != nil {
			fail("pki: " + err.Error())
		}
		return
	case "kube-apiserver":
		command = apiserver.NewAPIServerCommand()
	case "kube-controller-manager":
		command = controllermanager.NewControllerManagerCommand()
	case "kube-scheduler":
		command = scheduler.NewSchedulerCommand()
	case "kubelet":
		command = kubelet.NewKubeletCommand(context.Background())
	case "kube-proxy":
		command = proxy.NewProxyCommand()
	case "kubectl":
		command = kubectl.NewDefaultKubectlCommand()
	default:
		fail("unknown component " + args[0])
	}
	// The components read os.Args themselves, as if each were its own binary.
	os.Args = args
	os.Exit(cli.Run(command))
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, message)
	os.Exit(2)
}
