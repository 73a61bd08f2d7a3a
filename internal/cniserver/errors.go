// SPDX-License-Identifier: Apache-2.0

package cniserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/containernetworking/cni/pkg/types"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/cniapi"
	"github.com/waymark-net/waymark/internal/podlink"
	"github.com/waymark-net/waymark/ipam"
)

// errNotReady wraps the reason for which Pods cannot be added now.
var errNotReady = errors.New("waymark is not ready")

// errConflict says that the attachment exists in another namespace.
var errConflict = errors.New("container is attached already")

func cniError(code uint, format string, args ...any) *types.Error {
	return types.NewError(code, fmt.Sprintf(format, args...), "")
}

// toCNI gives an error the code that the specification has for it.
func toCNI(command cniapi.Command, err error) *types.Error {
	if e := (*types.Error)(nil); errors.As(err, &e) {
		return e
	}
	code := types.ErrInternal
	switch {
	case errors.Is(err, errNotReady) && command == cniapi.Status:
		code = types.ErrPluginNotAvailable
	case errors.Is(err, errNotReady), errors.Is(err, ipam.ErrExhausted),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		code = types.ErrTryAgainLater
	case errors.Is(err, podlink.ErrNoNamespace):
		code = types.ErrUnknownContainer
	case errors.Is(err, podlink.ErrNotNamespace):
		code = types.ErrInvalidNetNS
	case errors.Is(err, podlink.ErrInterfaceExists), errors.Is(err, errConflict):
		code = cniapi.CodeConflict
	case errors.Is(err, podlink.ErrBroken):
		code = cniapi.CodeBroken
	}
	return types.NewError(code, err.Error(), "")
}

// httpStatus is for people with curl; the plugin reads the body.
func httpStatus(code uint) int {
	switch {
	case code == types.ErrTryAgainLater, code == types.ErrPluginNotAvailable:
		return http.StatusServiceUnavailable
	case code < 100:
		return http.StatusBadRequest
	default:
		return http.StatusInternalServerError
	}
}

func writeError(ctx context.Context, w http.ResponseWriter, e *types.Error) {
	body, err := json.Marshal(e)
	if err != nil {
		klog.FromContext(ctx).Error(err, "Encoding a CNI error")
	}
	write(ctx, w, httpStatus(e.Code), body)
}

func write(ctx context.Context, w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil {
		// The plugin is gone; its runtime will come back with DEL.
		klog.FromContext(ctx).V(2).Info("CNI answer not delivered", "err", err)
	}
}
